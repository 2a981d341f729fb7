/// `ip daddr @SET`: an address of the packet is in a set of the same table; packets of the other
/// family never match.
package struct AddressLookup: Hashable, Sendable, CustomStringConvertible {
  package enum Field: String, Hashable, Sendable {
    case source = "saddr"
    case destination = "daddr"
  }

  package let family: IPFamily
  package let field: Field
  package let set: String

  package init(_ family: IPFamily, _ field: Field, in set: String) {
    self.family = family
    self.field = field
    self.set = set
  }

  package var description: String { "\(family.keyword) \(field.rawValue) @\(set)" }
}

/// `fib daddr type @SET`: what the routing tables make of the destination is in a set of the same
/// table.
package struct AddressTypeLookup: Hashable, Sendable, CustomStringConvertible {
  package let set: String

  package init(in set: String) { self.set = set }

  package var description: String { "fib daddr type @\(set)" }
}
