package import NFTables

/// Policy routing that delivers what `tproxy` marks to this host: rules, and the table they lead to.
/// Both carry `protocolNumber`, by which those that a killed run left are recognised.
package struct RoutingPlan: Hashable, Sendable {
  /// Number of the route table.
  package static let table: UInt8 = 155
  /// Place of the rules among all rules: behind `local` (0), before `main` (32766).
  package static let priority: UInt32 = 155
  /// `rtm_protocol` and `FRA_PROTOCOL`; unassigned in iproute2's `rt_protos`.
  package static let protocolNumber: UInt8 = 155

  /// `ip rule add priority 155 fwmark MARK/MASK iif INTERFACE lookup 155`.
  ///
  /// Only packets of the interface in question, since source validation asks the rules, too: with
  /// `src_valid_mark` and `rp_filter` on, a rule without interface would make every packet a martian.
  package struct Rule: Hashable, Sendable {
    package var family: IPFamily
    package var inputInterface: String
    package var mark: MaskedMark

    package init(_ family: IPFamily, inputInterface: String, mark: MaskedMark) {
      self.family = family
      self.inputInterface = inputInterface
      self.mark = mark
    }
  }

  /// `ip route add local default dev lo table 155`.
  package struct Route: Hashable, Sendable {
    package var family: IPFamily

    package init(_ family: IPFamily) { self.family = family }
  }

  package var rules: [Rule]
  package var routes: [Route]

  package init(rules: [Rule], routes: [Route]) {
    self.rules = rules
    self.routes = routes
  }
}

extension RedirectPolicy {
  /// Empty where nothing is captured by `tproxy`; the same in both phases.
  package func routing() -> RoutingPlan {
    // Output of this host is routed, and returns through the loopback, as from `lo`.
    var interfaces = machine == .tproxy ? ["lo"] : []
    if let gateway, gateway.capture == .tproxy {
      for name in gateway.interfaces where !interfaces.contains(name) { interfaces.append(name) }
    }
    let families: [IPFamily] = interfaces.isEmpty ? [] : [.v4, .v6]
    return RoutingPlan(
      rules: families.flatMap { family in
        interfaces.map {
          RoutingPlan.Rule(family, inputInterface: $0, mark: Mark.maskedTproxy)
        }
      },
      routes: families.map { RoutingPlan.Route($0) })
  }
}
