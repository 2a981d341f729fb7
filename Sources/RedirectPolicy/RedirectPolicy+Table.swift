internal import Addressing
package import NFTables

// The ruleset. `nft/*.nft` show it for each scope, with the reason of every rule.

/// Names of what the table holds.
private enum Name {
  static let upstream4 = "upstream4"
  static let upstream6 = "upstream6"
  static let bypass4 = "bypass4"
  static let bypass6 = "bypass6"
  static let localTypes = "local_types"
  static let interfaces = "interfaces"
  static let exempt = "exempt"
  static let divert = "divert"
}

extension RedirectPolicy {
  /// The name of our only table.
  package static let tableName = "sluice"

  /// The table of family `inet` that captures according to this policy.
  package func table() -> Table {
    Table(family: .inet, name: Self.tableName, sets: sets, chains: chains)
  }

  // MARK: Sets

  private var sets: [NamedSet] {
    var sets: [NamedSet] = []
    if phase == .capturing {
      let blocks =
        BypassRanges.scoped + (proxyPrivate ? [] : BypassRanges.privateUse) + bypass
      sets += [
        NamedSet(Name.upstream4, hosts: upstreams, .v4),
        NamedSet(Name.upstream6, hosts: upstreams, .v6),
        NamedSet(Name.bypass4, blocks: blocks, .v4),
        NamedSet(Name.bypass6, blocks: blocks, .v6),
        NamedSet(Name.localTypes, addressTypes: [.local, .broadcast, .anycast, .multicast]),
      ]
    }
    if let gateway, phase == .capturing || gateway.capture == .tproxy {
      sets.append(NamedSet(Name.interfaces, interfaces: gateway.interfaces))
    }
    return sets
  }

  // MARK: Chains

  /// Chains that are jumped to come first, as rules can only name what exists.
  private var chains: [Chain] {
    var chains: [Chain] = []
    if phase == .capturing { chains.append(exemptChain) }
    if usesTransparentProxy { chains.append(divertChain) }
    switch machine {
    case .redirect: chains.append(machineRedirectChain)
    case .tproxy: chains += [machineMarkChain, machineTproxyChain]
    case nil: break
    }
    switch gateway?.capture {
    case .redirect: chains.append(gatewayRedirectChain)
    case .tproxy: chains.append(gatewayTproxyChain)
    case nil: break
    }
    if usesTransparentProxy { chains.append(guardChain) }
    return chains
  }

  /// Accepts what is never captured, whatever the scope.
  private var exemptChain: Chain {
    Chain(
      Name.exempt,
      rules: [
        Rule(.addressType(AddressTypeLookup(in: Name.localTypes)), .verdict(.accept)),
        Rule(.address(AddressLookup(.v4, .destination, in: Name.upstream4)), .verdict(.accept)),
        Rule(.address(AddressLookup(.v6, .destination, in: Name.upstream6)), .verdict(.accept)),
        Rule(.address(AddressLookup(.v4, .destination, in: Name.bypass4)), .verdict(.accept)),
        Rule(.address(AddressLookup(.v6, .destination, in: Name.bypass6)), .verdict(.accept)),
      ])
  }

  /// Gives a packet to the `tproxy` listener or the connection that it accepted, or to nobody.
  private var divertChain: Chain {
    func deliver(_ family: IPFamily, _ loopback: IPAddress) -> Rule {
      Rule(
        .family(FamilyMatch(family)), .transport(TransportMatch(.equal, .tcp)),
        .tproxy(TransparentProxy(to: SocketAddress(loopback, ports.tproxy))), .verdict(.accept))
    }
    return Chain(
      Name.divert,
      rules: [
        Rule(.setMark(MarkAssignment(.packet, Mark.maskedTproxy))),
        deliver(.v4, .v4(.loopback)),
        deliver(.v6, .v6(.loopback)),
        Rule(.verdict(.drop)),
      ])
  }

  /// While draining, a rule that asks for the direction keeps connection tracking on in this
  /// namespace: without any the kernel stops it, and the translation of open flows with it.
  private var machineRedirectChain: Chain {
    let capture = [isOwn] + openings + [toRedirectListener]
    return Chain(
      "machine_redirect", Chain.Base(.nat, .output, .dstnat),
      rules: phase == .capturing ? capture : [isOwn, isReply])
  }

  private var machineMarkChain: Chain {
    let captured = Rule(
      .mark(MarkMatch(.connection, Mark.maskedTproxy)),
      .setMark(MarkAssignment(.packet, Mark.maskedTproxy)), .verdict(.accept))
    let capture = Rule(
      .setMark(MarkAssignment(.connection, Mark.maskedTproxy)),
      .setMark(MarkAssignment(.packet, Mark.maskedTproxy)))
    return Chain(
      "machine_mark", Chain.Base(.route, .output, .mangle),
      rules: [isOwn, notTCP, isReply, captured]
        + (phase == .capturing ? [notOpening, jumpExempt, capture] : []))
  }

  private var machineTproxyChain: Chain {
    Chain(
      "machine_tproxy", Chain.Base(.filter, .prerouting, .mangle),
      rules: [
        isOwn,
        Rule(
          .interface(InterfaceMatch(.input, .equal, .name("lo"))),
          .mark(MarkMatch(.packet, Mark.maskedTproxy)), .verdict(.goto(Name.divert))),
      ])
  }

  private var gatewayRedirectChain: Chain {
    let capture =
      [isOwn, notFromLAN] + openings + fromUpstream + [toRedirectListener]
    return Chain(
      "gateway_redirect", Chain.Base(.nat, .prerouting, .dstnat),
      rules: phase == .capturing ? capture : [isOwn, isReply])
  }

  private var gatewayTproxyChain: Chain {
    let captured = [
      Rule(.mark(MarkMatch(.connection, Mark.maskedTproxy)), .verdict(.goto(Name.divert))),
      Rule(notOpeningMatch, .socket(.transparent), .verdict(.goto(Name.divert))),
    ]
    let capture = Rule(
      .setMark(MarkAssignment(.connection, Mark.maskedTproxy)), .verdict(.goto(Name.divert)))
    return Chain(
      "gateway_tproxy", Chain.Base(.filter, .prerouting, .mangle),
      rules: [isOwn, notFromLAN, notTCP] + captured
        + (phase == .capturing ? [isReply, notOpening, jumpExempt] + fromUpstream + [capture] : []))
  }

  /// Drops what was captured and would still leave this host, as when the `ip rule` is gone.
  private var guardChain: Chain {
    Chain(
      "guard", Chain.Base(.filter, .postrouting, .mangle),
      rules: [
        isOwn,
        Rule(
          .mark(MarkMatch(.packet, Mark.maskedTproxy)),
          .interface(InterfaceMatch(.output, .notEqual, .name("lo"))), .verdict(.drop)),
      ])
  }

  // MARK: Rules

  /// First of every base chain, so that the daemon can never meet itself.
  private var isOwn: Rule { Rule(.mark(MarkMatch(.packet, Mark.maskedOwn)), .verdict(.return)) }

  private var notFromLAN: Rule {
    Rule(
      .interface(InterfaceMatch(.input, .notEqual, .set(Name.interfaces))), .verdict(.return))
  }

  private var notTCP: Rule {
    Rule(.transport(TransportMatch(.notEqual, .tcp)), .verdict(.return))
  }

  private var isReply: Rule { Rule(.direction(.reply), .verdict(.return)) }

  private var notOpeningMatch: Expression {
    .flags(TCPFlagsMatch(.notEqual, .syn, of: [.fin, .syn, .rst, .ack]))
  }

  /// Whatever does not open a connection belongs to one that has never been captured.
  private var notOpening: Rule { Rule(notOpeningMatch, .verdict(.return)) }

  private var jumpExempt: Rule { Rule(.verdict(.jump(Name.exempt))) }

  /// Leaves the first packets of connections that may be captured.
  private var openings: [Rule] { [notTCP, isReply, notOpening, jumpExempt] }

  private var fromUpstream: [Rule] {
    [
      Rule(.address(AddressLookup(.v4, .source, in: Name.upstream4)), .verdict(.return)),
      Rule(.address(AddressLookup(.v6, .source, in: Name.upstream6)), .verdict(.return)),
    ]
  }

  private var toRedirectListener: Rule {
    Rule(.transport(TransportMatch(.equal, .tcp)), .redirect(Redirect(to: ports.redirect)))
  }
}
