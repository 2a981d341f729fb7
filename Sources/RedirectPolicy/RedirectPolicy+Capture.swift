internal import NFTables

// The chains that capture.

extension RedirectPolicy {
  /// Chains that are jumped to come first, as rules can only name what exists.
  var captureChains: [Chain] {
    var chains: [Chain] = []
    if !delivered.isEmpty { chains.append(divertChain) }
    if let machine {
      if machine.capture == .redirect { chains.append(machineRedirectChain(machine)) }
      if !deliveredOfMachine.isEmpty { chains += [machineMarkChain(machine), machineTproxyChain] }
    }
    if let gateway {
      if gateway.capture == .redirect { chains.append(gatewayRedirectChain(gateway)) }
      if !deliveredOfGateway.isEmpty { chains.append(gatewayTproxyChain(gateway)) }
    }
    if delivered.contains(.udp) { chains.append(repliesChain) }
    if !delivered.isEmpty { chains.append(straysChain) }
    return chains
  }

  /// While draining, a rule that asks for the direction keeps connection tracking on in this
  /// namespace: without any the kernel stops it, and the translation of open flows with it.
  private func machineRedirectChain(_ machine: Machine) -> Chain {
    let selections = selections(machine)
    let capture =
      openings + excepted(machine)
      + dnsEverywhere([.tcp]) { _ in selections.map(dnsToRedirectListener) }
      + leaveIPv6 + [jumpExempt] + selections.map(toRedirectListener)
    return Chain(
      "machine_redirect", Chain.Base(.nat, .output, .dstnat),
      rules: [isOwn] + (phase == .capturing ? capture : [isReply]))
  }

  /// This host's own flows: a packet that is marked in a route chain is routed again, to lo.
  private func machineMarkChain(_ machine: Machine) -> Chain {
    let mark = Expression.setMark(MarkAssignment(.packet, numbers.marks.machine))
    let transports = deliveredOfMachine
    let selections = selections(machine)
    let capture =
      older(transports) + excepted(machine)
      + dnsEverywhere(transports) { transport in
        selections.flatMap { selection in
          [
            refuseLinkLocal(transport, selection),
            Rule(
              [isDNS(transport)] + selection + [markConnection, mark, .verdict(.accept)],
              comment: "DNS"),
          ]
        }
      } + leave(transports) + [jumpExempt]
      + selections.map { Rule($0 + [markConnection, mark], comment: "captured") }
    return Chain(
      "machine_mark", Chain.Base(.route, .output, .mangle),
      rules: [isOwn, others(transports)] + restOfFlows(transports, mark)
        + (phase == .capturing ? capture : []))
  }

  /// What goes to an address of a link keeps its interface, whatever its mark
  /// (`ip6_route_me_harder`), so that it cannot be led to the daemon.
  private func refuseLinkLocal(
    _ transport: PortLookup.Transport, _ selection: [Expression]
  ) -> Rule {
    Rule(
      [
        isDNS(transport),
        .address(AddressLookup(.v6, .destination, in: SetName.linkLocal(.v6))),
      ] + selection + [.reject(transport == .tcp ? .tcpReset : .portUnreachable)],
      comment: "DNS that cannot leave its link")
  }

  /// A flow of UDP may have been begun by the other side, whose datagrams come with our mark; of TCP
  /// what answers is the listener.
  private func restOfFlows(
    _ transports: [TransportMatch.Transport], _ mark: Expression
  ) -> [Rule] {
    func rest(_ isMeant: Expression) -> Rule {
      Rule(isMeant, isCapturedConnection, mark, .verdict(.accept), comment: restOfCaptured)
    }
    let isUDP =
      refusesDatagrams ? isDNS(.udp) : Expression.transport(TransportMatch(.equal, .udp))
    return (transports.contains(.udp) ? [rest(isUDP)] : []) + [isReply]
      + (transports.contains(.tcp) ? [rest(.transport(TransportMatch(.equal, .tcp)))] : [])
  }

  /// Marked packets come back in through lo.
  private var machineTproxyChain: Chain {
    Chain(
      "machine_tproxy", Chain.Base(.filter, .prerouting, .mangle),
      rules: [
        isOwn,
        Rule(
          .interface(InterfaceMatch(.input, .equal, .name("lo"))),
          .mark(MarkMatch(.packet, numbers.marks.machine)), .verdict(.goto(ChainName.divert)),
          comment: "what machine_mark has marked"),
      ])
  }

  private func gatewayRedirectChain(_ gateway: Gateway) -> Chain {
    let selection = selection(gateway)
    let capture =
      outsideLAN(gateway) + openings + otherSenders(gateway)
      + dnsEverywhere([.tcp]) { _ in [dnsToRedirectListener(after: selection)] }
      + leaveIPv6 + [jumpExempt, toRedirectListener(after: selection)]
    return Chain(
      "gateway_redirect", Chain.Base(.nat, .prerouting, .dstnat),
      rules: [isOwn] + (phase == .capturing ? capture : [isReply]))
  }

  private func gatewayTproxyChain(_ gateway: Gateway) -> Chain {
    let divert: [Expression] = [
      .setMark(MarkAssignment(.packet, numbers.marks.gateway)), .verdict(.goto(ChainName.divert)),
    ]
    let transports = deliveredOfGateway
    let selection = selection(gateway)
    let parts: [[Expression]] =
      refusesDatagrams
      ? transports.map { [$0 == .tcp ? .transport(TransportMatch(.equal, .tcp)) : isDNS(.udp)] }
      : [[]]
    // Such a packet needs no `tproxy`: the kernel finds the socket by itself, and with it the route, which
    // what `tproxy` has delivered is looked up for anew (`ip_rcv_finish_core`).
    let accepted =
      transports.contains(.tcp)
      ? [
        Rule(
          isNotOpening, .socket(.transparent),
          .setMark(MarkAssignment(.packet, numbers.marks.gateway)), .verdict(.accept),
          comment: "connections that the daemon has accepted")
      ] : []
    let rules =
      [isOwn] + outsideLAN(gateway) + [others(transports)] + accepted
      + parts.map { Rule($0 + [isCapturedConnection] + divert, comment: restOfCaptured) }
    let capture =
      [isReply] + older(transports) + translated(transports) + otherSenders(gateway)
      + dnsEverywhere(transports) { transport in
        [Rule([isDNS(transport)] + selection + [markConnection] + divert, comment: "DNS")]
      } + leave(transports) + [jumpExempt]
      + [Rule(selection + [markConnection] + divert, comment: "captured")]
    return Chain(
      "gateway_tproxy", Chain.Base(.filter, .prerouting, .mangle),
      rules: rules + (phase == .capturing ? capture : []))
  }

  // MARK: Rules

  /// Whether UDP other than DNS is rejected, of captured flows as well: there is nobody to carry it.
  private var refusesDatagrams: Bool { phase == .capturing && uncaptured.udp == .reject }

  private var restOfCaptured: String { "the rest of a captured connection" }

  private var isCapturedConnection: Expression {
    .mark(MarkMatch(.connection, numbers.marks.machine))
  }

  /// Leaves everything but these.
  private func others(_ transports: [TransportMatch.Transport]) -> Rule {
    Rule(transports.map { .transport(TransportMatch(.notEqual, $0)) } + [.verdict(.return)])
  }

  private var isNotOpening: Expression {
    .flags(TCPFlagsMatch(.notEqual, .syn, of: [.fin, .syn, .rst, .ack]))
  }

  /// What of TCP does not open a connection belongs to one that has never been captured.
  private func older(_ transports: [TransportMatch.Transport]) -> [Rule] {
    transports.contains(.tcp)
      ? [Rule(isNotOpening, .verdict(.return), comment: "connections older than these rules")] : []
  }

  /// Datagrams of a flow whose source was translated are still translated where they are delivered, so
  /// that the daemon would take them to be this host's.
  private func translated(_ transports: [TransportMatch.Transport]) -> [Rule] {
    transports.contains(.udp)
      ? [
        Rule(
          .transport(TransportMatch(.equal, .udp)), .status(.translatedSource), .verdict(.return),
          comment: "translated before these rules")
      ] : []
  }

  /// Leaves what is not captured of these.
  private func leave(_ transports: [TransportMatch.Transport]) -> [Rule] {
    (transports.contains(.udp) ? leaveDatagrams : []) + leaveIPv6
  }

  private var leaveIPv6: [Rule] {
    uncaptured.ipv6 == nil
      ? []
      : [Rule(.family(FamilyMatch(.v6)), .verdict(.return), comment: "IPv6 is not captured")]
  }

  /// Leaves the first packets of connections that may be captured.
  private var openings: [Rule] { [others([.tcp]), isReply] + older([.tcp]) }

  private func toRedirectListener(after selection: [Expression]) -> Rule {
    Rule(
      selection + [
        .transport(TransportMatch(.equal, .tcp)), .redirect(Redirect(to: ports.redirect)),
      ], comment: "captured")
  }

  private func dnsToRedirectListener(after selection: [Expression]) -> Rule {
    Rule([isDNS(.tcp)] + selection + [.redirect(Redirect(to: ports.redirect))], comment: "DNS")
  }
}
