package import Addressing
package import NFTables

/// What becomes of what a program sends in a network namespace without a way out: its only interface is
/// the loopback, by which every destination is delivered to this host. TCP and UDP are captured where they
/// come back in, all else is rejected, since nothing would ever carry it.
///
/// Nothing is decided by connections, so that the kernel tracks none there.
package struct ConfinementPolicy: Hashable, Sendable {
  /// Of the host that the namespace is, beside the loopback's own: what goes there stays there.
  package var addresses: [IPAddress]
  /// Whether UDP is rejected, except DNS if that is captured for itself.
  package var rejectsDatagrams = false
  /// Whether everything over IPv6 is, except DNS if all of it is captured.
  package var rejectsIPv6 = false
  /// Whether UDP to port 443 is rejected, so that its sender takes TCP.
  package var rejectsQUIC = false
  package var dns = RedirectPolicy.DNSCapture.selected

  package init(addresses: [IPAddress]) { self.addresses = addresses }

  /// Where the transparent sockets are bound, on both loopbacks. Of no use to a program that has no
  /// privilege, so that it finds all ports that it may have.
  package static let port: UInt16 = 1
  /// Nobody else gives marks there.
  package static let marks = Marks.candidates[0]

  /// Whether any UDP comes to the transparent sockets.
  package var capturesDatagrams: Bool { !rejectsDatagrams || dns != .none }

  /// The table of family `inet`; `nft/program.nft` shows it.
  package func table() -> Table {
    let chains = [divertChain, captureChain, refuseChain]
    let names = Set(chains.flatMap(\.rules).flatMap(\.expressions).compactMap(\.set))
    return Table(
      family: .inet, name: RedirectPolicy.tableName, sets: sets.filter { names.contains($0.name) },
      chains: chains)
  }

  // MARK: Sets

  private var sets: [NamedSet] {
    let scoped = addresses.compactMap { CIDR($0, prefixLength: $0.bitWidth) } + Self.inside
    let control = ICMPType.errors + ICMPType.linkControl
    return [IPFamily.v4, .v6].map { NamedSet(Self.insideName($0), blocks: scoped, $0) } + [
      NamedSet(SetName.dnsPorts, ports: [53...53]),
      NamedSet(SetName.quicPorts, ports: [443...443]),
      NamedSet(SetName.icmpControl(.v4), icmpTypes: control, .v4),
      NamedSet(SetName.icmpControl(.v6), icmpTypes: control, .v6),
    ]
  }

  /// The loopback's, and several hosts at once.
  private static let inside = ["127.0.0.0/8", "224.0.0.0/4", "255.255.255.255", "::1", "ff00::/8"]
    .compactMap { CIDR($0) }

  private static func insideName(_ family: IPFamily) -> String {
    family == .v4 ? "inside4" : "inside6"
  }

  // MARK: Chains

  private var captureChain: Chain {
    var rules = [
      Rule(
        .mark(MarkMatch(.packet, Self.engine)), .verdict(.accept), comment: "the engine's sockets")
    ]
    if dns == .everywhere {
      rules += [PortLookup.Transport.udp, .tcp].map { transport in
        Rule(
          .port(PortLookup(transport, .destination, in: SetName.dnsPorts)),
          .verdict(.goto(ChainName.divert)), comment: "DNS")
      }
    }
    rules += staysInside
    if rejectsIPv6 {
      rules.append(
        Rule(.family(FamilyMatch(.v6)), .verdict(.accept), comment: "IPv6 is not captured"))
    }
    if rejectsDatagrams, dns != .none {
      rules.append(
        Rule(
          .port(PortLookup(.udp, .destination, .notEqual, in: SetName.dnsPorts)),
          .verdict(.accept), comment: "UDP other than DNS is not captured"))
    } else if rejectsQUIC, !rejectsDatagrams {
      rules.append(
        Rule(
          .port(PortLookup(.udp, .destination, in: SetName.quicPorts)), .verdict(.accept),
          comment: "QUIC is not captured"))
    }
    rules.append(Rule(.verdict(.goto(ChainName.divert))))
    return Chain("capture", Chain.Base(.filter, .prerouting, .mangle), rules: rules)
  }

  /// Gives a packet to the engine, or where that is gone leaves it to `refuseChain`.
  private var divertChain: Chain {
    let transports: [TransportMatch.Transport] = capturesDatagrams ? [.tcp, .udp] : [.tcp]
    let listeners: [(IPFamily, IPAddress)] = [(.v4, .v4(.loopback)), (.v6, .v6(.loopback))]
    return Chain(
      ChainName.divert,
      rules: transports.flatMap { transport in
        listeners.map { family, loopback in
          Rule(
            .family(FamilyMatch(family)), .transport(TransportMatch(.equal, transport)),
            .tproxy(TransparentProxy(to: SocketAddress(loopback, Self.port))),
            .setMark(MarkAssignment(.packet, Self.marks.machine)), .verdict(.accept))
        }
      })
  }

  /// Says to the sender what it takes best: RST to TCP, port unreachable to UDP, a prohibition to all
  /// else.
  private var refuseChain: Chain {
    let types: [(IPFamily, String)] = [
      (.v4, "about undeliverable packets"), (.v6, "the same, and what keeps a link going"),
    ]
    return Chain(
      ChainName.refuse, Chain.Base(.filter, .input, .filter),
      rules: [
        Rule(
          .mark(MarkMatch(.packet, Self.marks.captured)), .verdict(.accept), comment: "captured"),
        Rule(
          .mark(MarkMatch(.packet, Self.engine)), .verdict(.accept),
          comment: "the engine's sockets"),
      ] + staysInside
        + types.map { family, comment in
          Rule(
            .icmpType(ICMPTypeLookup(family, in: SetName.icmpControl(family))), .verdict(.accept),
            comment: comment)
        } + [
          Rule(.transport(TransportMatch(.equal, .tcp)), .reject(.tcpReset)),
          Rule(.transport(TransportMatch(.equal, .udp)), .reject(.portUnreachable)),
          Rule(.reject(.administrativelyProhibited)),
        ])
  }

  // MARK: Rules

  private var staysInside: [Rule] {
    [IPFamily.v4, .v6].map {
      Rule(
        .address(AddressLookup($0, .destination, in: Self.insideName($0))), .verdict(.accept),
        comment: "this host, and several hosts at once")
    }
  }

  /// `own` and `reply`.
  private static var engine: MaskedMark {
    MaskedMark(marks.own.value, mask: marks.own.value)
  }
}
