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

  /// The keywords that say what it is.
  fileprivate var schema: String {
    switch self {
    case .flag: #""type": "boolean""#
    case .number: #""type": "integer""#
    case .text(_, words: []): Self.text
    case .text(_, let words): "\"enum\": [\(words.map(quoted).joined(separator: ", "))]"
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
