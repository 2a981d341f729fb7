/// A table with all that it holds: sets, then chains. Its text is what `nft list table` prints.
package struct Table: Hashable, Sendable {
  /// Which packets a table's chains see (`nft(8)`, ADDRESS FAMILIES).
  package enum Family: String, Hashable, Sendable {
    /// IPv4 and IPv6.
    case inet
  }

  package var family: Family
  package var name: String
  package var sets: [NamedSet]
  package var chains: [Chain]

  package init(family: Family, name: String, sets: [NamedSet], chains: [Chain]) {
    self.family = family
    self.name = name
    self.sets = sets
    self.chains = chains
  }
}

extension Table: CustomStringConvertible {
  /// nft text as nftables 1.0.6 lists it, without a newline at the end.
  package var description: String {
    let parts = sets.map { "\($0)\n" } + chains.map { "\($0)\n" }
    return "table \(family.rawValue) \(name) {\n" + parts.joined(separator: "\n") + "}"
  }
}
