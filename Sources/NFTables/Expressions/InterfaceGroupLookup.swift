/// `iifgroup @SET`: the group of the interface where the packet arrived (`ip link set … group`) is, or
/// is not, in a set of the same table.
package struct InterfaceGroupLookup: Hashable, Sendable, CustomStringConvertible {
  package let comparison: Comparison
  package let set: String

  package init(_ comparison: Comparison, in set: String) {
    self.comparison = comparison
    self.set = set
  }

  package var description: String { "iifgroup\(comparison.infix)@\(set)" }
}
