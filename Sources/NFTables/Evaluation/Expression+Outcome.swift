internal import Addressing

/// Whether a match holds for a packet, and why.
package struct MatchOutcome: Hashable, Sendable {
  package let holds: Bool
  /// For people: "203.0.113.7 is in @bypass4 (203.0.113.0/24)".
  package let reason: String

  init(_ holds: Bool, _ reason: String) {
    self.holds = holds
    self.reason = reason
  }
}

extension Expression {
  /// What a match makes of a packet; nil for a statement, which matches nothing.
  /// - Parameter table: where the sets are.
  func outcome(_ packet: Packet, _ table: Table) -> MatchOutcome? {
    switch self {
    case .interface(let match): match.outcome(packet, table)
    case .interfaceGroup(let lookup):
      table.lookup(
        lookup.comparison, lookup.set,
        packet.input.map { ("the group \($0.group) of \($0.name)", .interfaceGroup($0.group)) },
        otherwise: "it did not arrive by an interface")
    case .hardwareAddress(let lookup):
      table.lookup(
        .equal, lookup.set, packet.hardwareAddress.map { ("\($0)", .hardwareAddress($0)) },
        otherwise: "the sender's hardware address is unknown")
    case .owner(let lookup): lookup.outcome(packet, table)
    case .controlGroup(let lookup):
      table.lookup(
        .equal, lookup.set,
        packet.controlGroup(level: lookup.level).map {
          ("the sender's control group of level \(lookup.level)", .controlGroup($0))
        },
        otherwise: "the sender has no control group of level \(lookup.level)")
    case .family(let match):
      MatchOutcome(match.family == packet.family, "it is \(packet.family == .v4 ? "IPv4" : "IPv6")")
    case .transport(let match):
      MatchOutcome(
        match.comparison.holds(match.transport == packet.transport.kind),
        "it is \(packet.transport.name)")
    case .port(let lookup):
      table.lookup(
        lookup.comparison, lookup.set,
        packet.transport.port(lookup.transport, lookup.field).map {
          ("the \(lookup.field == .source ? "source port " : "port ")\($0)", .port($0))
        }, otherwise: "it is \(packet.transport.name)")
    case .icmpType(let lookup):
      table.lookup(
        .equal, lookup.set, packet.icmpType(lookup.family).map { ("type \($0)", .icmpType($0)) },
        otherwise: "it is no \(lookup.family == .v4 ? "ICMP" : "ICMPv6")")
    case .mark(let match): match.outcome(packet)
    case .direction(let direction):
      MatchOutcome(
        direction == packet.direction,
        packet.direction == .reply ? "it answers" : "it does not answer")
    case .status(.translatedSource):
      MatchOutcome(
        packet.isTranslated,
        packet.isTranslated ? "its source is translated" : "its source is not translated")
    case .flags(let match): match.outcome(packet)
    case .address(let lookup): lookup.outcome(packet, table)
    case .addressType(let lookup):
      table.lookup(
        .equal, lookup.set,
        packet.destinationType.map { ("the type of \(packet.destination)", .addressType($0)) },
        otherwise: "\(packet.destination) is another host")
    case .socket(.transparent):
      MatchOutcome(
        packet.hasTransparentSocket,
        "\(packet.hasTransparentSocket ? "a" : "no") transparent socket has this connection")
    case .setMark, .redirect, .tproxy, .reject, .verdict: nil
    }
  }
}

extension Comparison {
  fileprivate func holds(_ isEqual: Bool) -> Bool {
    switch self {
    case .equal: isEqual
    case .notEqual: !isEqual
    }
  }
}

extension Table {
  /// - Parameters:
  ///   - subject: what is looked up, with its name; nil where the packet has no such thing, so that
  ///     neither comparison holds.
  ///   - absence: why it has none.
  fileprivate func lookup(
    _ comparison: Comparison, _ set: String, _ subject: (name: String, key: NamedSet.Key)?,
    otherwise absence: String
  ) -> MatchOutcome {
    guard let subject else { return MatchOutcome(false, absence) }
    guard let element = sets.first(where: { $0.name == set })?.element(with: subject.key) else {
      return MatchOutcome(comparison.holds(false), "\(subject.name) is not in @\(set)")
    }
    let detail = subject.name.hasSuffix(element) ? "" : " (\(element))"
    return MatchOutcome(comparison.holds(true), "\(subject.name) is in @\(set)\(detail)")
  }
}

extension Packet {
  fileprivate func controlGroup(level: UInt32) -> UInt64? {
    level <= controlGroups.count ? controlGroups[Int(level) - 1] : nil
  }

  fileprivate func icmpType(_ family: IPFamily) -> UInt8? {
    switch (transport, family) {
    case (.icmp(let type), .v4), (.icmpv6(let type), .v6): type
    case (.icmp, .v6), (.icmpv6, .v4), (.tcp, _), (.udp, _), (.other, _): nil
    }
  }
}

extension InterfaceMatch {
  /// The kernel takes the name of an absent interface to be empty (`nft_meta_store_ifname`).
  fileprivate func outcome(_ packet: Packet, _ table: Table) -> MatchOutcome {
    let interface = (direction == .input ? packet.input?.name : packet.output) ?? ""
    switch operand {
    case .name(let name):
      let way = direction == .input ? "arrives by" : "leaves by"
      return MatchOutcome(
        comparison.holds(interface == name),
        "it \(way) \(interface.isEmpty ? "no interface" : interface)")
    case .set(let set):
      let subject = interface.isEmpty ? "no interface" : interface
      return table.lookup(comparison, set, (subject, .interface(interface)), otherwise: "")
    }
  }
}

extension SocketOwnerLookup {
  fileprivate func outcome(_ packet: Packet, _ table: Table) -> MatchOutcome {
    let (name, number) =
      switch identity {
      case .user: ("user", packet.user)
      case .group: ("group", packet.group)
      }
    return table.lookup(
      .equal, set, number.map { ("\(name) \($0)", .identity($0)) },
      otherwise: "no socket of this host sends it")
  }
}

extension AddressLookup {
  /// Of the other family neither comparison holds.
  fileprivate func outcome(_ packet: Packet, _ table: Table) -> MatchOutcome {
    let address = field == .source ? packet.source : packet.destination
    let isFamily = packet.family == family
    return table.lookup(
      comparison, set, isFamily ? ("\(address)", .address(address)) : nil,
      otherwise: "it is \(packet.family == .v4 ? "IPv4" : "IPv6")")
  }
}

extension MarkMatch {
  fileprivate func outcome(_ packet: Packet) -> MatchOutcome {
    let value = packet[holder]
    return MatchOutcome(
      value & mark.mask == mark.value,
      "the \(holder == .packet ? "packet" : "connection")'s mark is 0x\(String(value, radix: 16))")
  }
}

extension TCPFlagsMatch {
  fileprivate func outcome(_ packet: Packet) -> MatchOutcome {
    guard case .tcp(_, _, let flags) = packet.transport else {
      return MatchOutcome(false, "it is \(packet.transport.name)")
    }
    return MatchOutcome(
      comparison.holds(flags.intersection(mask) == value),
      flags.intersection(mask) == .syn ? "it opens a connection" : "it does not open a connection")
  }
}
