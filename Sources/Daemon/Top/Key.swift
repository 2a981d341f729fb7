/// What somebody has pressed.
enum Key: Hashable {
  case up, down, pageUp, pageDown
  /// Ctrl-C, which comes as a byte.
  case interrupt
  case escape
  case letter(Character)

  private static let escapeByte = UInt8(0x1B)
  private static let interruptByte = UInt8(0x03)

  /// What a terminal sends for keys that are no letters, behind the escape (XTerm, in both of its modes).
  private static let sequences: [(bytes: [UInt8], key: Key)] = [
    (Array("[A".utf8), .up), (Array("OA".utf8), .up), (Array("[B".utf8), .down),
    (Array("OB".utf8), .down), (Array("[5~".utf8), .pageUp), (Array("[6~".utf8), .pageDown),
  ]

  /// The keys that a terminal has sent. Sequences arrive in one piece; what none begins is the key itself,
  /// and of an unknown one nothing is taken.
  static func keys(in bytes: [UInt8]) -> [Key] {
    var keys: [Key] = []
    var rest = bytes[...]
    while let first = rest.popFirst() {
      switch first {
      case interruptByte: keys.append(.interrupt)
      case 0x20..<0x7F: keys.append(.letter(Character(Unicode.Scalar(first))))
      case escapeByte:
        guard rest.first == UInt8(ascii: "[") || rest.first == UInt8(ascii: "O") else {
          keys.append(.escape)
          continue
        }
        if let known = sequences.first(where: { rest.starts(with: $0.bytes) }) {
          keys.append(known.key)
          rest.removeFirst(known.bytes.count)
        } else {
          // Parameters, and the byte that ends a sequence (ECMA-48, 5.4).
          rest.removeFirst()
          rest = rest.drop { (0x20..<0x40).contains($0) }.dropFirst()
        }
      default: continue
      }
    }
    return keys
  }
}
