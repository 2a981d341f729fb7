internal import Addressing
internal import NFTables

// The chains that capture.

extension RedirectPolicy {
  /// Chains that are jumped to come first, as rules can only name what exists.
  var captureChains: [Chain] {
    var chains: [Chain] = []
    if usesTransparentProxy { chains.append(divertChain) }
    if let machine {
      switch machine.capture {
      case .redirect: chains.append(machineRedirectChain(machine))
      case .tproxy: chains += [machineMarkChain(machine), machineTproxyChain]
      }
    }
    if let gateway {
      switch gateway.capture {
      case .redirect: chains.append(gatewayRedirectChain(gateway))
      case .tproxy: chains.append(gatewayTproxyChain(gateway))
      }
    }
    if usesTransparentProxy { chains.append(straysChain) }
    return chains
  }

  /// Gives a packet to the `tproxy` listener or the connection that it accepted, or to nobody. The
  /// address is written out, so that the listener can be bound to loopback and a LAN cannot reach it
  /// directly.
  private var divertChain: Chain {
    func deliver(_ family: IPFamily, _ loopback: IPAddress) -> Rule {
      Rule(
        .family(FamilyMatch(family)), .transport(TransportMatch(.equal, .tcp)),
        .tproxy(TransparentProxy(to: SocketAddress(loopback, ports.tproxy))), .verdict(.accept))
    }
    return Chain(
      ChainName.divert,
      rules: [
        deliver(.v4, .v4(.loopback)),
        deliver(.v6, .v6(.loopback)),
        Rule(.verdict(.drop), comment: "no listener: nothing leaves directly for that"),
      ])
  }

  /// While draining, a rule that asks for the direction keeps connection tracking on in this
  /// namespace: without any the kernel stops it, and the translation of open flows with it.
  private func machineRedirectChain(_ machine: Machine) -> Chain {
    let capture =
      [isOwn] + openings + excepted(machine) + [jumpExempt]
      + selections(machine).map { toRedirectListener(after: $0) }
    return Chain(
      "machine_redirect", Chain.Base(.nat, .output, .dstnat),
      rules: phase == .capturing ? capture : [isOwn, isReply])
  }

  /// This host's own connections: a packet that is marked in a route chain is routed again, to lo.
  private func machineMarkChain(_ machine: Machine) -> Chain {
    let mark = Expression.setMark(MarkAssignment(.packet, numbers.marks.machine))
    let captured = Rule(isCapturedConnection, mark, .verdict(.accept), comment: restOfCaptured)
    let capture =
      [notOpening] + leaveIPv6 + excepted(machine) + [jumpExempt]
      + selections(machine).map { Rule($0 + [markConnection, mark], comment: "captured") }
    return Chain(
      "machine_mark", Chain.Base(.route, .output, .mangle),
      rules: [isOwn, notTCP, isReply, captured] + (phase == .capturing ? capture : []))
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
    let capture =
      [isOwn] + outsideLAN(gateway) + openings + otherSenders(gateway) + [jumpExempt]
      + fromUpstream + [toRedirectListener(after: selection(gateway))]
    return Chain(
      "gateway_redirect", Chain.Base(.nat, .prerouting, .dstnat),
      rules: phase == .capturing ? capture : [isOwn, isReply])
  }

  private func gatewayTproxyChain(_ gateway: Gateway) -> Chain {
    let divert: [Expression] = [
      .setMark(MarkAssignment(.packet, numbers.marks.gateway)), .verdict(.goto(ChainName.divert)),
    ]
    let captured = [
      Rule([isCapturedConnection] + divert, comment: restOfCaptured),
      Rule(
        [isNotOpening, .socket(.transparent)] + divert,
        comment: "the same, forgotten by connection tracking"),
    ]
    let capture =
      [isReply, notOpening] + leaveIPv6 + otherSenders(gateway) + [jumpExempt] + fromUpstream
      + [Rule(selection(gateway) + [markConnection] + divert, comment: "captured")]
    return Chain(
      "gateway_tproxy", Chain.Base(.filter, .prerouting, .mangle),
      rules: [isOwn] + outsideLAN(gateway) + [notTCP] + captured
        + (phase == .capturing ? capture : []))
  }

  /// Drops what was captured and would still leave this host, as when the `ip rule` is gone.
  private var straysChain: Chain {
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

  private var restOfCaptured: String { "the rest of a captured connection" }

  private var isCapturedConnection: Expression {
    .mark(MarkMatch(.connection, numbers.marks.machine))
  }

  private var markConnection: Expression {
    .setMark(MarkAssignment(.connection, numbers.marks.machine))
  }

  private var notTCP: Rule {
    Rule(.transport(TransportMatch(.notEqual, .tcp)), .verdict(.return))
  }

  private var isNotOpening: Expression {
    .flags(TCPFlagsMatch(.notEqual, .syn, of: [.fin, .syn, .rst, .ack]))
  }

  /// Whatever does not open a connection belongs to one that has never been captured.
  private var notOpening: Rule {
    Rule(isNotOpening, .verdict(.return), comment: "connections older than these rules")
  }

  private var leaveIPv6: [Rule] {
    uncaptured.ipv6 == nil
      ? []
      : [Rule(.family(FamilyMatch(.v6)), .verdict(.return), comment: "IPv6 is not captured")]
  }

  /// Leaves the first packets of connections that may be captured.
  private var openings: [Rule] { [notTCP, isReply, notOpening] + leaveIPv6 }

  private func toRedirectListener(after selection: [Expression]) -> Rule {
    Rule(
      selection + [
        .transport(TransportMatch(.equal, .tcp)), .redirect(Redirect(to: ports.redirect)),
      ], comment: "captured")
  }
}
