package import NFTables
package import RedirectPolicy

/// The tables of our names and our policy routing, as they are in the kernel.
package struct KernelState: Hashable, Sendable {
  let guardTable: FoundTable?
  let table: FoundTable?
  let routing: [PolicyRouting.Entry.Content]

  /// By name, in the order in which they are put in place.
  var tables: [(name: String, found: FoundTable?)] {
    [(RedirectPolicy.guardTableName, guardTable), (RedirectPolicy.tableName, table)]
  }

  /// What of the tables is ours, in the same order.
  package var ours: [Table] { tables.compactMap { $0.found?.table } }

  package var routingPlan: RoutingPlan {
    var plan = RoutingPlan()
    for content in routing {
      switch content {
      case .rule(let rule): plan.rules.append(rule)
      case .route(let route): plan.routes.append(route)
      case .other: break
      }
    }
    return plan
  }

  /// What Sluice does not make, each with its place; empty if this can be put back as it is.
  package var foreign: [String] {
    tables.flatMap { $0.found?.foreign ?? [] } + routing.filter { $0 == .other }.map(\.text)
  }

  /// Lines with `-` for what is here, with `+` for what `wanted` has, and with a space for where that
  /// is. Empty if both are the same.
  func difference(to wanted: Installation, routing plan: RoutingPlan) -> [String] {
    let planned =
      plan.rules.map(PolicyRouting.Entry.Content.rule)
      + plan.routes.map(PolicyRouting.Entry.Content.route)
    return TableDifference(from: guardTable, to: wanted.guardTable).lines
      + TableDifference(from: table, to: wanted.table).lines
      + routing.filter { !planned.contains($0) }.map { "-\($0.text)" }
      + planned.filter { !routing.contains($0) }.map { "+\($0.text)" }
  }
}

extension RuleInstaller {
  /// Reads what there is, whoever has put it there; changes nothing.
  package func state() throws(NetfilterError) -> KernelState {
    KernelState(
      guardTable: try TableReader.read(RedirectPolicy.guardTableName, from: nftables),
      table: try TableReader.read(RedirectPolicy.tableName, from: nftables),
      routing: try routing.contents())
  }

  /// How what there is differs from what the policy would install, as lines of a unified diff; empty
  /// if it does not. Changes nothing.
  package func difference(to policy: RedirectPolicy) throws(NetfilterError) -> [String] {
    let wanted = Installation(policy)
    return try state().difference(to: wanted, routing: PolicyRouting.possible(wanted.routing))
  }
}
