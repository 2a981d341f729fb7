/// A value as JSON text (RFC 8259), for programs that read what we say.
enum JSON: CustomStringConvertible {
  case text(String)
  /// Finite.
  case number(Double)
  case array([JSON])
  /// Members keep their order; those without a value are left out.
  case object([(name: String, value: JSON?)])

  var description: String {
    switch self {
    case .text(let text): return Self.quote(text)
    case .number(let value):
      return value.rounded() == value && abs(value) < 1e15 ? "\(Int(value))" : "\(value)"
    case .array(let values): return "[\(values.map(\.description).joined(separator: ","))]"
    case .object(let members):
      let texts = members.compactMap { member in
        member.value.map { "\(Self.quote(member.name)):\($0)" }
      }
      return "{\(texts.joined(separator: ","))}"
    }
  }

  /// RFC 8259, section 7.
  static func quote(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": quoted += "\\\""
      case "\\": quoted += "\\\\"
      case "\n": quoted += "\\n"
      case "\u{0}"..<"\u{20}":
        let hex = String(scalar.value, radix: 16)
        quoted += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: quoted.unicodeScalars.append(scalar)
      }
    }
    return quoted + "\""
  }
}
