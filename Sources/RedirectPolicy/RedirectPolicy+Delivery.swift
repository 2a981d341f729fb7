internal import Addressing
package import NFTables

// What `tproxy` delivers: TCP where a scope says so, and UDP, which nothing else can capture.

extension RedirectPolicy {
  /// Whether any UDP is captured, and so comes to the transparent sockets of `ports.tproxy`.
  package var capturesDatagrams: Bool { delivered.contains(.udp) }

  /// Of what this host sends; where no other UDP is, DNS alone is.
  package var deliveredOfMachine: [TransportMatch.Transport] {
    guard let machine else { return [] }
    return delivered(machine.capture, datagrams: wantsDatagrams)
  }

  /// The same of what arrives from the LAN.
  package var deliveredOfGateway: [TransportMatch.Transport] {
    guard let gateway else { return [] }
    return delivered(gateway.capture, datagrams: wantsDatagrams && !gateway.losesDatagrams)
  }

  /// The same of both.
  package var delivered: [TransportMatch.Transport] {
    [.tcp, .udp].filter { (deliveredOfMachine + deliveredOfGateway).contains($0) }
  }

  private var wantsDatagrams: Bool { uncaptured.udp == nil || dns != .none }

  private func delivered(
    _ capture: Capture, datagrams: Bool
  ) -> [TransportMatch.Transport] {
    (capture == .tproxy ? [.tcp] : []) + (datagrams ? [.udp] : [])
  }

  // MARK: Chains

  /// Gives a packet to the `tproxy` listener or the connection that it accepted, or to nobody. The
  /// address is written out, so that the listener can be bound to loopback and a LAN cannot reach it
  /// directly.
  var divertChain: Chain {
    let listeners: [(IPFamily, IPAddress)] = [(.v4, .v4(.loopback)), (.v6, .v6(.loopback))]
    let deliveries = delivered.flatMap { transport in
      listeners.map { family, loopback in
        Rule(
          .family(FamilyMatch(family)), .transport(TransportMatch(.equal, transport)),
          .tproxy(TransparentProxy(to: SocketAddress(loopback, ports.tproxy))), .verdict(.accept))
      }
    }
    let drop = Rule(.verdict(.drop), comment: "no listener: nothing leaves directly for that")
    return Chain(ChainName.divert, rules: deliveries + [drop])
  }

  /// A datagram that the daemon writes in the name of another host may begin a connection, or renew one
  /// that connection tracking has forgotten. What its receiver answers is then no answer of a service:
  /// it belongs to the captured flow.
  var repliesChain: Chain {
    Chain(
      "replies", Chain.Base(.filter, .output, .beforeMangle),
      rules: [
        isOwn,
        Rule(
          .mark(MarkMatch(.packet, numbers.marks.reply)),
          .transport(TransportMatch(.equal, .udp)), markConnection,
          .setMark(MarkAssignment(.packet, numbers.marks.own)),
          comment: "the daemon's, in the name of other hosts"),
      ])
  }

  /// Drops what was captured and would still leave this host, as when the `ip rule` is gone.
  var straysChain: Chain {
    Chain(
      "strays", Chain.Base(.filter, .postrouting, .mangle),
      rules: [
        isOwn,
        Rule(
          .mark(MarkMatch(.packet, numbers.marks.captured)),
          .interface(InterfaceMatch(.output, .notEqual, .name("lo"))), .verdict(.drop),
          comment: "captured, but the ip rule is gone"),
      ])
  }

  // MARK: Rules

  var markConnection: Expression {
    .setMark(MarkAssignment(.connection, numbers.marks.machine))
  }

  /// Leaves UDP that is not captured.
  var leaveDatagrams: [Rule] {
    if uncaptured.udp != nil {
      return [
        Rule(
          .port(PortLookup(.udp, .destination, .notEqual, in: SetName.dnsPorts)),
          .verdict(.return), comment: "UDP other than DNS is not captured")
      ]
    }
    guard rejectsQUIC else { return [] }
    return [
      Rule(
        .port(PortLookup(.udp, .destination, in: SetName.quicPorts)), .verdict(.return),
        comment: "QUIC is not captured")
    ]
  }

  /// What is done with DNS before anything is exempt; nothing unless all of it is captured.
  /// - Parameter rules: for DNS of one transport.
  func dnsEverywhere(
    _ transports: [TransportMatch.Transport], _ rules: (PortLookup.Transport) -> [Rule]
  ) -> [Rule] {
    guard dns == .everywhere, !transports.isEmpty else { return [] }
    let leaveGroups = Rule(
      .addressType(AddressTypeLookup(in: SetName.groupTypes)), .verdict(.return),
      comment: "several hosts at once")
    return [leaveGroups] + transports.flatMap { rules($0 == .tcp ? .tcp : .udp) }
  }

  func isDNS(_ transport: PortLookup.Transport) -> Expression {
    .port(PortLookup(transport, .destination, in: SetName.dnsPorts))
  }
}
