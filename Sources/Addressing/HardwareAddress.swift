/// A 48-bit link-layer address (IEEE 802 MAC) as its six bytes.
package struct HardwareAddress: Hashable, Sendable {
  package let bytes: [UInt8]

  package static let byteCount = 6

  /// Nil unless there are `byteCount` bytes.
  package init?(bytes: [UInt8]) {
    guard bytes.count == Self.byteCount else { return nil }
    self.bytes = bytes
  }
}

extension HardwareAddress: CustomStringConvertible, LosslessStringConvertible {
  /// Parses six groups of two hexadecimal digits with colons or hyphens between them.
  package init?(_ text: some StringProtocol) {
    let groups = text.split(omittingEmptySubsequences: false) { $0 == ":" || $0 == "-" }
    let bytes = groups.compactMap { group in
      group.utf8.count == 2 && group.allSatisfy(\.isHexDigit) ? UInt8(group, radix: 16) : nil
    }
    guard groups.count == Self.byteCount, bytes.count == Self.byteCount else { return nil }
    self.bytes = bytes
  }

  /// Lower case with colons, as nft and ip print it.
  package var description: String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
  }
}

extension HardwareAddress: Comparable {
  package static func < (a: Self, b: Self) -> Bool { a.bytes.lexicographicallyPrecedes(b.bytes) }
}
