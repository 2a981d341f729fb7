/// How a table in the kernel differs from one that is wanted: lines with `-` for what is there, with
/// `+` for what should be, and with a space for where that is. What agrees is left out.
package struct TableDifference {
  /// Empty if both are the same.
  package private(set) var lines: [String] = []

  /// - Parameters:
  ///   - found: nil if there is no such table.
  ///   - wanted: nil if there should be none.
  package init(from found: FoundTable?, to wanted: Table?) {
    guard let name = wanted?.name ?? found?.name else { return }
    addSets(found?.sets ?? [], wanted?.sets ?? [])
    addChains(found?.chains ?? [], wanted?.chains ?? [])
    lines = (found?.remarks ?? []).map { "-\t\($0)" } + lines
    let title = "table \(Table.Family.inet.rawValue) \(name)"
    switch (found, wanted) {
    case (.some, nil): lines.insert("-\(title)", at: 0)
    case (nil, .some): lines.insert("+\(title)", at: 0)
    case (.some, .some), (nil, nil): if !lines.isEmpty { lines.insert(" \(title)", at: 0) }
    }
  }

  // MARK: Pieces

  /// Their order is of no consequence, nor is that of their elements.
  private mutating func addSets(_ found: [FoundTable.FoundSet], _ wanted: [NamedSet]) {
    let present = Dictionary(found.map { ($0.name, $0) }) { first, _ in first }
    for set in wanted {
      guard let old = present[set.name] else {
        add(mark: "+", title: "set \(set.name)", Self.marked("+", set.lines))
        continue
      }
      let remarks = Self.marked("-", old.remarks)
      let (removed, added) = Self.difference(old.set, set)
      add(
        mark: " ", title: "set \(set.name)",
        remarks + Self.marked("-", removed) + Self.marked("+", added))
    }
    let names = Set(wanted.map(\.name))
    for set in found where !names.contains(set.name) {
      add(
        mark: "-", title: "set \(set.name)",
        Self.marked("-", set.remarks + (set.set?.lines ?? [])))
    }
  }

  /// Of sets of one kind only the elements are compared, as values: their text takes long.
  private static func difference(_ old: NamedSet?, _ new: NamedSet) -> ([String], [String]) {
    guard let old else { return ([], new.lines) }
    guard let removed = old.elements.subtracting(new.elements),
      let added = new.elements.subtracting(old.elements)
    else { return (old.lines, new.lines) }
    return (NamedSet(old.name, removed).elementTexts, NamedSet(old.name, added).elementTexts)
  }

  private mutating func addChains(_ found: [FoundTable.FoundChain], _ wanted: [Chain]) {
    let present = Dictionary(found.map { ($0.name, $0) }) { first, _ in first }
    for chain in wanted {
      let title = "chain \(chain.name)"
      guard let old = present[chain.name] else {
        add(mark: "+", title: title, Self.marked("+", chain.lines))
        continue
      }
      add(mark: " ", title: title, Self.changes(from: old.lines, to: chain.lines))
    }
    let names = Set(wanted.map(\.name))
    for chain in found where !names.contains(chain.name) {
      add(mark: "-", title: "chain \(chain.name)", Self.marked("-", chain.lines))
    }
  }

  /// Lines to take away and to add, in their order.
  private static func changes(from old: [String], to new: [String]) -> [String] {
    var (removed, added): (Set<Int>, Set<Int>) = ([], [])
    for change in new.difference(from: old) {
      switch change {
      case .remove(let offset, _, _): removed.insert(offset)
      case .insert(let offset, _, _): added.insert(offset)
      }
    }
    var lines: [String] = []
    var (oldIndex, newIndex) = (0, 0)
    while oldIndex < old.count || newIndex < new.count {
      if removed.contains(oldIndex) {
        lines.append("-\t\t\(old[oldIndex])")
        oldIndex += 1
      } else if added.contains(newIndex) {
        lines.append("+\t\t\(new[newIndex])")
        newIndex += 1
      } else {
        oldIndex += 1
        newIndex += 1
      }
    }
    return lines
  }

  private static func marked(_ mark: String, _ lines: [String]) -> [String] {
    lines.map { "\(mark)\t\t\($0)" }
  }

  private mutating func add(mark: String, title: String, _ changes: [String]) {
    if mark == " " && changes.isEmpty { return }
    lines += ["\(mark)\t\(title)"] + changes
  }
}

extension FoundTable.FoundChain {
  fileprivate var lines: [String] {
    remarks + (base.map { ["\($0)"] } ?? []) + rules.map(\.description)
  }
}
