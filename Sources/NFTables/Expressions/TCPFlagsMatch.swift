/// `tcp flags VALUE / MASK`: some of the flags of a TCP header; other protocols never match.
package struct TCPFlagsMatch: Hashable, Sendable, CustomStringConvertible {
  /// Bits of the TCP header's byte 13 (RFC 9293, section 3.1).
  package struct Flags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static let fin = Flags(rawValue: 0x01)
    package static let syn = Flags(rawValue: 0x02)
    package static let rst = Flags(rawValue: 0x04)
    package static let ack = Flags(rawValue: 0x10)
  }

  package let comparison: Comparison
  package let value: Flags
  package let mask: Flags

  package init(_ comparison: Comparison, _ value: Flags, of mask: Flags) {
    self.comparison = comparison
    self.value = value
    self.mask = mask
  }

  package var description: String { "tcp flags\(comparison.infix)\(value) / \(mask)" }
}

extension TCPFlagsMatch.Flags: CustomStringConvertible {
  package var description: String {
    let names: [(TCPFlagsMatch.Flags, String)] = [
      (.fin, "fin"), (.syn, "syn"), (.rst, "rst"), (.ack, "ack"),
    ]
    return names.filter { contains($0.0) }.map(\.1).joined(separator: ",")
  }
}
