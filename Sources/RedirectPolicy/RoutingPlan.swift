package import NFTables

/// Policy routing that delivers what `tproxy` marks to this host: rules, and the table they lead to.
/// Both carry `protocolNumber`, by which those that a killed run left are recognised.
package struct RoutingPlan: Hashable, Sendable {
  /// `rtm_protocol` and `FRA_PROTOCOL`; unassigned in iproute2's `rt_protos`.
  package static let protocolNumber: UInt8 = 155

  /// `ip rule add priority N [fwmark MARK/MASK] [iif INTERFACE] ACTION protocol 155`.
  package struct Rule: Hashable, Sendable {
    package enum Action: Hashable, Sendable {
      /// `lookup TABLE`.
      case lookup(UInt8)
      /// `goto PRIORITY`.
      case goto(UInt32)
      /// `nop`: a place to go to.
      case nothing
    }

    package var family: IPFamily
    package var priority: UInt32
    package var mark: MaskedMark?
    package var inputInterface: String?
    package var action: Action

    package init(
      _ family: IPFamily, priority: UInt32, mark: MaskedMark? = nil,
      inputInterface: String? = nil, action: Action
    ) {
      self.family = family
      self.priority = priority
      self.mark = mark
      self.inputInterface = inputInterface
      self.action = action
    }
  }

  /// `ip route add local default dev lo table TABLE protocol 155`.
  package struct Route: Hashable, Sendable {
    package var family: IPFamily
    package var table: UInt8

    package init(_ family: IPFamily, table: UInt8) {
      self.family = family
      self.table = table
    }
  }

  package var rules: [Rule]
  package var routes: [Route]

  package init(rules: [Rule] = [], routes: [Route] = []) {
    self.rules = rules
    self.routes = routes
  }
}

extension RedirectPolicy {
  /// Empty where nothing is captured by `tproxy`; the same in every phase.
  ///
  /// Source validation (`rp_filter` with `src_valid_mark`, or a firewall's `fib saddr . mark`) asks the
  /// rules for the way back to a sender, with the packet's mark and as from `lo`. That question must
  /// not lead to our table, or every captured packet of a LAN would count as a martian: it goes past.
  package func routing() -> RoutingPlan {
    if delivered.isEmpty { return RoutingPlan() }
    let (marks, table, first) = (numbers.marks, numbers.routeTable, numbers.rulePriority)
    var plan = RoutingPlan()
    for family in [IPFamily.v4, .v6] {
      if !deliveredOfMachine.isEmpty {
        // Output of this host is routed, and returns through the loopback, as from `lo`.
        plan.rules.append(
          RoutingPlan.Rule(
            family, priority: first, mark: marks.machine, inputInterface: "lo",
            action: .lookup(table)))
      }
      if !deliveredOfGateway.isEmpty {
        // What is gone to comes before what goes there.
        plan.rules += [
          RoutingPlan.Rule(family, priority: first + 2, action: .nothing),
          RoutingPlan.Rule(
            family, priority: first, mark: marks.gateway, inputInterface: "lo",
            action: .goto(first + 2)),
          RoutingPlan.Rule(
            family, priority: first + 1, mark: marks.gateway, action: .lookup(table)),
        ]
      }
      plan.routes.append(RoutingPlan.Route(family, table: table))
    }
    return plan
  }
}
