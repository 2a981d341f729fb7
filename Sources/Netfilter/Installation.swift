internal import Addressing
internal import CLibnftnl
internal import NFTables
internal import RedirectPolicy

/// What a policy puts into the kernel.
struct Installation: Hashable {
  let table: Table
  let guardTable: Table?
  let routing: RoutingPlan

  init(_ policy: RedirectPolicy) {
    table = policy.table()
    guardTable = policy.guardTable()
    routing = policy.routing()
  }

  /// Elements that one set loses and gains.
  struct ElementChange {
    let table: String
    let removed: NamedSet
    let added: NamedSet
  }

  /// What makes the sets of `previous` those of this one; nil where more than their elements differs.
  func elementChanges(from previous: Installation) -> [ElementChange]? {
    guard (guardTable == nil) == (previous.guardTable == nil),
      let changes = table.elementChanges(from: previous.table)
    else { return nil }
    guard let guardTable, let previousGuard = previous.guardTable else { return changes }
    guard let guardChanges = guardTable.elementChanges(from: previousGuard) else { return nil }
    return changes + guardChanges
  }
}

extension Table {
  fileprivate func elementChanges(from previous: Table) -> [Installation.ElementChange]? {
    guard chains == previous.chains, sets.count == previous.sets.count else { return nil }
    var changes: [Installation.ElementChange] = []
    for (set, old) in zip(sets, previous.sets) where set != old {
      guard set.name == old.name, set.isInterval == old.isInterval,
        let removed = old.elements.subtracting(set.elements),
        let added = set.elements.subtracting(old.elements)
      else { return nil }
      changes.append(
        Installation.ElementChange(
          table: name, removed: NamedSet(set.name, removed), added: NamedSet(set.name, added)))
    }
    return changes
  }
}

extension Transaction {
  /// Takes away first, since what is added may overlap what goes.
  mutating func apply(_ change: Installation.ElementChange) {
    self.change(change.removed, in: change.table, NFT_MSG_DELSETELEM)
    self.change(change.added, in: change.table)
  }
}
