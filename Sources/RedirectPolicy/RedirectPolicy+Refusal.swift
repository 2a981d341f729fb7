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
      let dns = lostDNS(
        of: refused, selections(machine), datagrams: deliveredOfMachine.contains(.udp))
      chains.append(
        Chain(
          "machine_refuse", Chain.Base(.filter, .output, .filter),
          rules: [isOwn, past, isReply] + (refused == .everything ? answers : [])
            + excepted(machine) + dns.beforeExempt + [jumpExempt] + dns.behindExempt
            + selections(machine).map(refusing)))
    }
    if let gateway {
      let dns = lostDNS(
        of: refused, [selection(gateway)], datagrams: deliveredOfGateway.contains(.udp))
      chains.append(
        Chain(
          "gateway_refuse", Chain.Base(.filter, .forward, .filter),
          rules: [isOwn] + outsideLAN(gateway) + [isReply] + otherSenders(gateway)
            + dns.beforeExempt + [jumpExempt] + dns.behindExempt + [refusing(selection(gateway))]))
    }
    return chains
  }

  private func refusing(_ selection: [Expression]) -> Rule {
    Rule(
      selection + [.verdict(.goto(ChainName.refuse))], comment: "selected and not captured")
  }

  /// Rejects DNS that would have been captured where other UDP, or everything to that destination,
  /// would not.
  /// - Parameter datagrams: whether that of UDP would.
  private func lostDNS(
    of refused: Refused, _ selections: [[Expression]], datagrams: Bool
  ) -> (beforeExempt: [Rule], behindExempt: [Rule]) {
    guard refused == .everything else { return ([], []) }
    func reject(_ match: [Expression], _ transport: PortLookup.Transport) -> [Rule] {
      selections.map { selection in
        Rule(
          match + [isDNS(transport)] + selection + [
            .reject(transport == .tcp ? .tcpReset : .portUnreachable)
          ], comment: wouldHaveBeen)
      }
    }
    let everywhere = dnsEverywhere(datagrams ? [.tcp, .udp] : [.tcp]) { reject([], $0) }
    guard dns == .selected, datagrams, uncaptured.udp == .bypass else { return (everywhere, []) }
    let isCaptured: [Expression] =
      uncaptured.ipv6 == nil ? [] : [.family(FamilyMatch(.v4))]
    return (everywhere, reject(isCaptured, .udp))
  }

  private var wouldHaveBeen: String { "would have been captured" }

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
      rules.append(Rule(isTCP, .reject(.tcpReset), comment: wouldHaveBeen))
    }
    rules += refuseDatagrams(refused)
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

  private func refuseDatagrams(_ refused: Refused) -> [Rule] {
    let isUDP = Expression.transport(TransportMatch(.equal, .udp))
    var rules: [Rule] = []
    if rejectsQUIC && uncaptured.udp != .reject {
      rules.append(
        Rule(
          .port(PortLookup(.udp, .destination, in: SetName.quicPorts)), .reject(.portUnreachable),
          comment: "quic reject"))
    }
    // Of UDP that is captured only what `tproxy` would lose comes here while the daemon runs.
    let isLost = gateway?.losesDatagrams == true
    switch (uncaptured.udp ?? (isLost ? .reject : nil), refused) {
    case (let treatment?, _): rules.append(treat(.udp, treatment, .portUnreachable, "udp"))
    case (nil, .everything):
      rules.append(Rule(isUDP, .reject(.portUnreachable), comment: wouldHaveBeen))
    case (nil, .uncaptured): rules.append(Rule(isUDP, .verdict(.return)))
    }
    return rules
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
