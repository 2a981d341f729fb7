/// A value of a YAML document, with its place.
struct Node: Hashable, Sendable {
  enum Content: Hashable, Sendable {
    /// Whatever its type would be in YAML: the setting says how it is read.
    case text(String, isPlain: Bool)
    case list([Node])
    /// Pairs in the order of the document; keys may occur twice.
    case mapping([Pair])
  }

  struct Pair: Hashable, Sendable {
    let key: Node
    let value: Node
  }

  let content: Content
  let place: Place

  /// Nothing stands where a value could (YAML 1.2, section 10.2.1.1).
  var isEmpty: Bool {
    guard case .text(let text, isPlain: true) = content else { return false }
    return ["", "~", "null"].contains(text)
  }

  /// For messages.
  var kind: String {
    switch content {
    case .text: isEmpty ? "nothing" : "a single value"
    case .list: "a list"
    case .mapping: "a mapping"
    }
  }
}

/// Where something stands in a file; both count from 1, columns in characters.
package struct Place: Hashable, Sendable {
  package let line: Int
  package let column: Int

  static let start = Place(line: 1, column: 1)
}
