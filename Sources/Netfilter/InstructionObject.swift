internal import CLibnftnl

/// An instruction of a rule as libnftnl has parsed it; valid as long as its rule is.
struct InstructionObject {
  private let expression: OpaquePointer

  init(_ expression: OpaquePointer) { self.expression = expression }

  /// The kernel's name for it.
  var name: String { text(NFTNL_EXPR_NAME) }

  /// Zero if it is not there.
  func number(_ attribute: Attribute) -> UInt32 {
    nftnl_expr_get_u32(expression, UInt16(attribute))
  }

  /// Zero if it is not there.
  func byte(_ attribute: Attribute) -> UInt8 { nftnl_expr_get_u8(expression, UInt16(attribute)) }

  /// Empty if it is not there.
  func text(_ attribute: Attribute) -> String {
    nftnl_expr_get_str(expression, UInt16(attribute)).map { String(cString: $0) } ?? ""
  }

  /// Empty if it is not there.
  func bytes(_ attribute: Attribute) -> [UInt8] {
    var count: UInt32 = 0
    guard let start = nftnl_expr_get(expression, UInt16(attribute), &count) else { return [] }
    // SAFETY: libnftnl says how many bytes there are; they are copied while the rule lives.
    return Array(UnsafeRawBufferPointer(start: start, count: Int(count)))
  }

  /// Whether nothing but these attributes is there, be it with or without some of them.
  func has(only attributes: [Attribute]) -> Bool {
    (NFTNL_EXPR_NAME + 1..<Self.attributeCount).allSatisfy {
      attributes.contains($0) || !nftnl_expr_is_set(expression, UInt16($0))
    }
  }

  /// libnftnl's words, in brackets.
  var description: String {
    let buffer = [UInt8](unsafeUninitializedCapacity: 1024) { buffer, count in
      // SAFETY: libnftnl writes at most the given number of bytes and returns how many it wanted.
      let wanted = buffer.withMemoryRebound(to: CChar.self) {
        nftnl_expr_snprintf(
          $0.baseAddress, $0.count, expression, UInt32(NFTNL_OUTPUT_DEFAULT.rawValue), 0)
      }
      count = max(0, min(Int(wanted), buffer.count - 1))
    }
    let words = String(decoding: buffer.prefix { $0 != 0 }, as: UTF8.self).split(separator: " ")
    return "[ " + ([Substring(name)] + words).joined(separator: " ") + " ]"
  }

  /// `NFTNL_EXPR_*`.
  typealias Attribute = Int

  /// More than any instruction has; libnftnl keeps 32 flags.
  private static let attributeCount = 16
}
