/// `ip daddr @SET`: an address of the packet is, or is not, in a set of the same table; packets of the
/// other family never match.
package struct AddressLookup: Hashable, Sendable, CustomStringConvertible {
  package enum Field: String, Hashable, Sendable {
    case source = "saddr"
    case destination = "daddr"
  }

  package let family: IPFamily
  package let field: Field
  package let comparison: Comparison
  package let set: String

  package init(
    _ family: IPFamily, _ field: Field, _ comparison: Comparison = .equal, in set: String
  ) {
    self.family = family
    self.field = field
    self.comparison = comparison
    self.set = set
  }

  package var description: String {
    "\(family.keyword) \(field.rawValue)\(comparison.infix)@\(set)"
  }
}

/// `fib daddr type @SET`: what the routing tables make of the destination is in a set of the same
/// table.
package struct AddressTypeLookup: Hashable, Sendable, CustomStringConvertible {
  package let set: String

  package init(in set: String) { self.set = set }

  package var description: String { "fib daddr type @\(set)" }
}
