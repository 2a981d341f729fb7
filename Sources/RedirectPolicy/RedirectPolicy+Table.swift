internal import Addressing
package import NFTables

// The tables. `nft/*.nft` show them for each scope.

extension RedirectPolicy {
  /// The table that captures; it belongs to the daemon's process.
  package static let tableName = "sluice"
  /// The table that keeps `exit` closed; it belongs to nobody.
  package static let guardTableName = "sluice_guard"

  /// The table of family `inet` that captures, and in an open policy rejects what cannot be captured.
  package func table() -> Table {
    let rejecting = exit == .open && phase == .capturing ? refusals(of: .uncaptured) : []
    let exempting = phase == .capturing ? [exemptChain] : []
    // Chains that are jumped to come first, as rules can only name what exists.
    let chains =
      exempting + rejecting.filter { $0.base == nil } + captureChains
      + rejecting.filter { $0.base != nil }
    return Table(
      family: .inet, name: Self.tableName, sets: sets(usedBy: chains), chains: chains)
  }

  /// The table that rejects what would have been captured wherever the other one does not capture it;
  /// nil in an open policy.
  package func guardTable() -> Table? {
    guard exit == .closed, phase != .suspended else { return nil }
    let chains = [exemptChain] + refusals(of: .everything)
    return Table(
      family: .inet, name: Self.guardTableName, sets: sets(usedBy: chains), chains: chains)
  }

  /// What is never captured, whatever the scope. An accept ends the chain that jumped here.
  var exemptChain: Chain {
    let exemptions = Rule.exempting
    var rules = [
      Rule(
        .addressType(AddressTypeLookup(in: SetName.localTypes)), .verdict(.accept),
        comment: "this host, and several hosts at once"),
      exemptions(
        .address(AddressLookup(.v4, .destination, in: SetName.upstreams(.v4))), "upstream"),
      exemptions(
        .address(AddressLookup(.v6, .destination, in: SetName.upstreams(.v6))), "upstream"),
      exemptions(.address(AddressLookup(.v4, .destination, in: SetName.bypass(.v4))), "bypass"),
      exemptions(.address(AddressLookup(.v6, .destination, in: SetName.bypass(.v6))), "bypass"),
    ]
    if destinations.only != nil {
      rules += [IPFamily.v4, .v6].map {
        exemptions(
          .address(AddressLookup($0, .destination, .notEqual, in: SetName.only($0))),
          "not in proxy-only")
      }
    }
    if !destinations.bypassPorts.isEmpty {
      rules += [PortLookup.Transport.tcp, .udp].map {
        exemptions(.port(PortLookup($0, .destination, in: SetName.bypassPorts)), "bypass-port")
      }
    }
    if !destinations.onlyPorts.isEmpty {
      rules += [PortLookup.Transport.tcp, .udp].map {
        exemptions(
          .port(PortLookup($0, .destination, .notEqual, in: SetName.onlyPorts)),
          "not in proxy-only-port")
      }
    }
    return Chain(ChainName.exempt, rules: rules)
  }
}

/// Names of chains that others jump to.
enum ChainName {
  static let exempt = "exempt"
  static let divert = "divert"
  static let refuse = "refuse"
}

extension Rule {
  fileprivate static func exempting(_ match: Expression, _ comment: String) -> Rule {
    Rule(match, .verdict(.accept), comment: comment)
  }
}

// MARK: Rules of several chains

extension RedirectPolicy {
  /// First of every base chain, so that the daemon can never meet itself.
  var isOwn: Rule {
    Rule(
      .mark(MarkMatch(.packet, numbers.marks.own)), .verdict(.return),
      comment: "the daemon's own sockets")
  }

  var isReply: Rule {
    Rule(.direction(.reply), .verdict(.return), comment: "answers of services")
  }

  var jumpExempt: Rule { Rule(.verdict(.jump(ChainName.exempt))) }

  /// Leaves what comes in by the gateway's interfaces and from its sources.
  func outsideLAN(_ gateway: Gateway) -> [Rule] {
    var elsewhere: [Expression] = []
    if !gateway.interfaces.isEmpty {
      elsewhere.append(.interface(InterfaceMatch(.input, .notEqual, .set(SetName.interfaces))))
    }
    if !gateway.interfaceGroups.isEmpty {
      elsewhere.append(
        .interfaceGroup(InterfaceGroupLookup(.notEqual, in: SetName.interfaceGroups)))
    }
    return [Rule(elsewhere + [.verdict(.return)], comment: "not from the LAN")]
  }

  /// Leaves what the gateway's choices of senders include, and nothing of the upstream.
  func otherSenders(_ gateway: Gateway) -> [Rule] {
    var rules: [Rule] = []
    for family in [IPFamily.v4, .v6] {
      if !gateway.sources.only.isEmpty {
        rules.append(
          Rule(
            .address(AddressLookup(family, .source, .notEqual, in: SetName.sources(family))),
            .verdict(.return), comment: "not from"))
      }
      if !gateway.sources.except.isEmpty {
        rules.append(
          Rule(
            .address(AddressLookup(family, .source, in: SetName.exceptSources(family))),
            .verdict(.return), comment: "except-from"))
      }
    }
    if !gateway.hardwareAddresses.except.isEmpty {
      rules.append(
        Rule(
          .hardwareAddress(HardwareAddressLookup(in: SetName.exceptHardwareAddresses)),
          .verdict(.return), comment: "except-mac"))
    }
    // The upstream itself may be a host of the LAN.
    return rules
      + [IPFamily.v4, .v6].map {
        Rule(
          .address(AddressLookup($0, .source, in: SetName.upstreams($0))), .verdict(.return),
          comment: "from the upstream")
      }
  }

  /// Leaves what the machine's choices do not except.
  func excepted(_ machine: Machine) -> [Rule] {
    func leave(_ match: Expression, _ comment: String) -> Rule {
      Rule(match, .verdict(.return), comment: comment)
    }
    var rules: [Rule] = []
    if !machine.users.except.isEmpty {
      rules.append(leave(.owner(SocketOwnerLookup(.user, in: SetName.exceptUsers)), "except-uid"))
    }
    if !machine.groups.except.isEmpty {
      rules.append(leave(.owner(SocketOwnerLookup(.group, in: SetName.exceptGroups)), "except-gid"))
    }
    for level in machine.controlGroups.except.levels {
      rules.append(
        leave(
          .controlGroup(
            ControlGroupLookup(level: level, in: SetName.exceptControlGroups(level))),
          "except-cgroup"))
    }
    if !machine.outputInterfaces.except.isEmpty {
      rules.append(
        leave(
          .interface(InterfaceMatch(.output, .equal, .set(SetName.exceptOutputInterfaces))),
          "except-out-interface"))
    }
    return rules
  }

  /// Matches what the machine's choices include, in each way that can be: control groups of every
  /// depth need a match of their own.
  func selections(_ machine: Machine) -> [[Expression]] {
    var matches: [Expression] = []
    if !machine.users.only.isEmpty {
      matches.append(.owner(SocketOwnerLookup(.user, in: SetName.users)))
    }
    if !machine.groups.only.isEmpty {
      matches.append(.owner(SocketOwnerLookup(.group, in: SetName.groups)))
    }
    if !machine.outputInterfaces.only.isEmpty {
      matches.append(
        .interface(InterfaceMatch(.output, .equal, .set(SetName.outputInterfaces))))
    }
    let levels = machine.controlGroups.only.levels
    if levels.isEmpty { return [matches] }
    return levels.map { level in
      matches + [
        .controlGroup(ControlGroupLookup(level: level, in: SetName.controlGroups(level)))
      ]
    }
  }

  /// Matches the hardware addresses that the gateway's choice includes.
  func selection(_ gateway: Gateway) -> [Expression] {
    gateway.hardwareAddresses.only.isEmpty
      ? [] : [.hardwareAddress(HardwareAddressLookup(in: SetName.hardwareAddresses))]
  }
}
