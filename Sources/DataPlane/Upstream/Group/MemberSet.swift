/// Some of the upstreams of a group, by their index, which is their slot.
package struct MemberSet: Hashable, Sendable {
  package static let maximumMembers = 16

  /// Bit `n` stands for member `n`.
  private(set) var bits: UInt16

  init(bits: UInt16) { self.bits = bits }

  package init() { bits = 0 }

  /// All members of a group of so many.
  package init(count: Int) { bits = UInt16(truncatingIfNeeded: UInt32(1) << UInt32(count) - 1) }

  package init(_ members: some Sequence<Int>) {
    bits = 0
    for member in members { insert(member) }
  }

  package var isEmpty: Bool { bits == 0 }
  package var count: Int { bits.nonzeroBitCount }

  package func contains(_ member: Int) -> Bool { bits >> UInt16(member) & 1 == 1 }

  package mutating func insert(_ member: Int) { bits |= 1 << UInt16(member) }

  package mutating func remove(_ member: Int) { bits &= ~(1 << UInt16(member)) }

  package mutating func formUnion(_ others: MemberSet) { bits |= others.bits }

  package func subtracting(_ others: MemberSet) -> MemberSet {
    MemberSet(bits: bits & ~others.bits)
  }

  package func intersection(_ others: MemberSet) -> MemberSet {
    MemberSet(bits: bits & others.bits)
  }

  /// The first of them at or behind an index; nil if there is none.
  package func first(from index: Int = 0) -> Int? {
    let rest = index < Self.maximumMembers ? bits & (.max << UInt16(index)) : 0
    return rest == 0 ? nil : rest.trailingZeroBitCount
  }
}
