/// A table as it was read from the kernel, where others may have changed it: what Sluice has no value
/// for is kept as text.
package struct FoundTable: Hashable, Sendable {
  package enum FoundRule: Hashable, Sendable {
    case ours(Rule)
    /// nft text, with the kernel's instructions in brackets where they are none of ours.
    case foreign(String)
  }

  package struct FoundSet: Hashable, Sendable {
    package let name: String
    /// Nil for a set of another type than ours.
    package let set: NamedSet?
    /// What `set` does not say: other properties, and elements with more than a key.
    package let remarks: [String]

    package init(_ name: String, _ set: NamedSet?, remarks: [String]) {
      self.name = name
      self.set = set
      self.remarks = remarks
    }
  }

  package struct FoundChain: Hashable, Sendable {
    package let name: String
    /// Nil for a chain without a hook, or with one that we have no word for.
    package let base: Chain.Base?
    /// What `base` does not say.
    package let remarks: [String]
    package let rules: [FoundRule]

    package init(_ name: String, _ base: Chain.Base?, remarks: [String], rules: [FoundRule]) {
      self.name = name
      self.base = base
      self.remarks = remarks
      self.rules = rules
    }
  }

  package let name: String
  /// What the parts do not say.
  package let remarks: [String]
  package let sets: [FoundSet]
  package let chains: [FoundChain]

  package init(_ name: String, remarks: [String], sets: [FoundSet], chains: [FoundChain]) {
    self.name = name
    self.remarks = remarks
    self.sets = sets
    self.chains = chains
  }
}

extension FoundTable {
  /// What is none of ours, each with its place; empty if `table` says all.
  package var foreign: [String] {
    remarks.map { "table \(name): \($0)" }
      + sets.flatMap { set in set.remarks.map { "set \(set.name): \($0)" } }
      + chains.flatMap { chain in
        (chain.remarks + chain.rules.compactMap(\.foreign)).map { "chain \(chain.name): \($0)" }
      }
  }

  /// What there is of ours: all of it if nothing is `foreign`.
  package var table: Table {
    Table(
      family: .inet, name: name, sets: sets.compactMap(\.set),
      chains: chains.map { Chain($0.name, $0.base, rules: $0.rules.compactMap(\.ours)) })
  }
}

extension FoundTable.FoundRule: CustomStringConvertible {
  package var description: String {
    switch self {
    case .ours(let rule): rule.description
    case .foreign(let text): text
    }
  }

  fileprivate var ours: Rule? {
    if case .ours(let rule) = self { rule } else { nil }
  }

  fileprivate var foreign: String? {
    if case .foreign(let text) = self { text } else { nil }
  }
}
