/// Whose mark: the packet's (`meta mark`) or its connection's (`ct mark`).
package enum MarkHolder: String, Hashable, Sendable {
  case packet = "meta mark"
  case connection = "ct mark"
}

/// A value in some bits of a 32-bit mark; the others belong to somebody else.
package struct MaskedMark: Hashable, Sendable {
  package let value: UInt32
  package let mask: UInt32

  /// `value` has no bit outside `mask`.
  package init(_ value: UInt32, mask: UInt32) {
    precondition(value & ~mask == 0, "a value outside its mask")
    self.value = value
    self.mask = mask
  }
}

/// `meta mark & MASK == VALUE`: a mark's own bits, whatever the others are.
package struct MarkMatch: Hashable, Sendable, CustomStringConvertible {
  package let holder: MarkHolder
  package let mark: MaskedMark

  package init(_ holder: MarkHolder, _ mark: MaskedMark) {
    self.holder = holder
    self.mark = mark
  }

  package var description: String {
    "\(holder.rawValue) & \(hexadecimal(mark.mask)) == \(hexadecimal(mark.value))"
  }
}

/// `meta mark set meta mark & KEPT | VALUE`: writes the mark's own bits and keeps the others.
package struct MarkAssignment: Hashable, Sendable, CustomStringConvertible {
  package let holder: MarkHolder
  package let mark: MaskedMark

  package init(_ holder: MarkHolder, _ mark: MaskedMark) {
    self.holder = holder
    self.mark = mark
  }

  /// The kernel keeps `(mark & ~mask) ^ value`; nft lists the bits that it sets in both operands, and
  /// leaves out a mask of all bits.
  package var description: String {
    let kept = ~mark.mask | mark.value
    let masked = kept == .max ? "" : " & \(hexadecimal(kept))"
    return "\(holder.rawValue) set \(holder.rawValue)\(masked) | \(hexadecimal(mark.value))"
  }
}

/// `0x` and eight digits, as nft lists a mark.
private func hexadecimal(_ value: UInt32) -> String {
  let digits = String(value, radix: 16)
  return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
}
