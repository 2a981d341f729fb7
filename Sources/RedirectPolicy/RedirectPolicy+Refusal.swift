internal import Addressing
internal import NFTables

// The chains that reject what is selected and not captured.

extension RedirectPolicy {
  enum Refused {
    /// What can never be captured, as `uncaptured` says.
    case uncaptured
    /// That, and what would be captured.
    case everything
  }

  /// Empty where nothing is rejected; they jump to `exemptChain`. They come behind routing and address translation, so that what was
  /// captured is on its way to this host.
  func refusals(of refused: Refused) -> [Chain] {
    let refuse = refuseChain(refused)
    guard refuse.rules.contains(where: \.isRejecting) else { return [] }
    var chains = [refuse]
    if let machine {
      let past = Rule(
        .mark(MarkMatch(.packet, numbers.marks.captured)), .verdict(.return), comment: "captured")
      let refusing = selections(machine).map {
        Rule($0 + [.verdict(.goto(ChainName.refuse))], comment: "selected and not captured")
      }
      chains.append(
        Chain(
          "machine_refuse", Chain.Base(.filter, .output, .filter),
          rules: [isOwn, past, isReply] + (refused == .everything ? answers : [])
            + excepted(machine) + [jumpExempt] + refusing))
    }
    if let gateway {
      let refusing = Rule(
        selection(gateway) + [.verdict(.goto(ChainName.refuse))],
        comment: "selected and not captured")
      chains.append(
        Chain(
          "gateway_refuse", Chain.Base(.filter, .forward, .filter),
          rules: [isOwn] + outsideLAN(gateway) + [isReply] + otherSenders(gateway) + [jumpExempt]
            + fromUpstream + [refusing]))
    }
    return chains
  }

  /// Says to the sender what it takes best: RST to TCP, port unreachable to UDP, so that QUIC gives way
  /// to TCP at once, and a prohibition to all else.
  private func refuseChain(_ refused: Refused) -> Chain {
    var rules = [
      Rule(
        .icmpType(ICMPTypeLookup(.v4, in: SetName.icmpControl(.v4))), .verdict(.return),
        comment: "about undeliverable packets"),
      Rule(
        .icmpType(ICMPTypeLookup(.v6, in: SetName.icmpControl(.v6))), .verdict(.return),
        comment: "the same, and what keeps a link going"),
    ]
    let isTCP = Expression.transport(TransportMatch(.equal, .tcp))
    if let treatment = uncaptured.ipv6 {
      let isV6 = Expression.family(FamilyMatch(.v6))
      switch treatment {
      case .bypass: rules.append(Rule(isV6, .verdict(.return), comment: "ipv6 bypass"))
      case .reject:
        rules += [
          Rule(isV6, isTCP, .reject(.tcpReset), comment: "ipv6 reject"),
          Rule(isV6, .reject(.administrativelyProhibited), comment: "ipv6 reject"),
        ]
      }
    }
    switch refused {
    case .uncaptured: rules.append(Rule(isTCP, .verdict(.return)))
    case .everything:
      rules.append(Rule(isTCP, .reject(.tcpReset), comment: "would have been captured"))
    }
    rules.append(treat(.udp, uncaptured.udp, .portUnreachable, "udp"))
    // A choice of ports speaks of protocols that have ports.
    if destinations.onlyPorts.isEmpty {
      rules.append(treat(.icmp, uncaptured.icmp, .administrativelyProhibited, "icmp"))
      rules.append(treat(.icmpv6, uncaptured.icmp, .administrativelyProhibited, "icmp"))
      if uncaptured.other == .reject {
        rules.append(Rule(.reject(.administrativelyProhibited), comment: "other reject"))
      }
    }
    return Chain(ChainName.refuse, rules: rules)
  }

  private func treat(
    _ transport: TransportMatch.Transport, _ treatment: Treatment, _ rejection: Reject,
    _ name: String
  ) -> Rule {
    let match = Expression.transport(TransportMatch(.equal, transport))
    return switch treatment {
    case .bypass: Rule(match, .verdict(.return), comment: "\(name) bypass")
    case .reject: Rule(match, .reject(rejection), comment: "\(name) reject")
    }
  }

  /// Answers of this host's services whose connections began before connection tracking did.
  private var answers: [Rule] {
    guard !services.isEmpty else { return [] }
    return [
      Rule(
        .flags(TCPFlagsMatch(.notEqual, .syn, of: [.fin, .syn, .rst, .ack])),
        .port(PortLookup(.tcp, .source, in: SetName.services)), .verdict(.return),
        comment: "answers of services, older than these rules")
    ]
  }
}

extension Rule {
  fileprivate var isRejecting: Bool {
    expressions.contains { if case .reject = $0 { true } else { false } }
  }
}
