/// `icmp type @SET`, `icmpv6 type @SET`: the type of an ICMP message of this family is in a set of the
/// same table; other packets never match.
package struct ICMPTypeLookup: Hashable, Sendable, CustomStringConvertible {
  package let family: IPFamily
  package let set: String

  package init(_ family: IPFamily, in set: String) {
    self.family = family
    self.set = set
  }

  package var description: String { "\(family == .v4 ? "icmp" : "icmpv6") type @\(set)" }
}
