internal import Configuration

extension ConfigurationFile {
  /// What a file may have, as a JSON Schema (draft 2020-12), for editors. Of a text it says no more than
  /// that it is one.
  package static var schema: String {
    let settings = Setting.all.map { setting in
      """
          \(quoted(setting.name)): {
            "description": \(quoted(setting.summary)),
            \(setting.value.schema)
          }
      """
    }
    return """
      {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of Sluice",
        "type": "object",
        "additionalProperties": false,
        "properties": {
      \(settings.joined(separator: ",\n"))
        }
      }
      """
  }
}

extension Setting.Value {
  /// What YAML may take for a number or a boolean is a text here.
  private static let text = #""type": ["string", "number", "boolean"]"#

  /// Of a rule.
  private static let properties = PolicyRule.Key.allCases.map { key in
    let isSingle = key == .name || key == .to
    let values =
      isSingle ? text : "\"anyOf\": [{\(text)}, {\"type\": \"array\", \"items\": {\(text)}}]"
    return "\(quoted(key.rawValue)): {\(values)}"
  }.joined(separator: ", ")

  /// The keywords that say what it is.
  fileprivate var schema: String {
    switch self {
    case .flag: #""type": "boolean""#
    case .number: #""type": "integer""#
    case .text(_, words: []): Self.text
    case .text(_, let words): "\"enum\": [\(words.map(quoted).joined(separator: ", "))]"
    case .rules:
      """
      "type": "array", "items": {"anyOf": [{\(Self.text)}, {"type": "object", "required": ["to"], \
      "additionalProperties": false, "properties": {\(Self.properties)}}]}
      """
    case .texts:
      "\"anyOf\": [{\(Self.text)}, {\"type\": \"array\", \"items\": {\(Self.text)}}]"
    }
  }
}

/// As JSON: names and summaries have no character that would have to be escaped.
private func quoted(_ text: String) -> String {
  precondition(!text.contains { "\"\\".contains($0) || $0.isNewline })
  return "\"\(text)\""
}
