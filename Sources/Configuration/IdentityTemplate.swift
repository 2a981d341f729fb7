/// A user name or password, parts of which each flow fills in with what it is: `{uid}` and the like,
/// with `{{` and `}}` for the braces themselves. It is parsed once.
package struct IdentityTemplate: Hashable, Sendable {
  /// What a flow fills in, by the word that stands for it.
  package enum Placeholder: String, Hashable, Sendable, CaseIterable {
    /// User of the program that has the socket, a number.
    case uid
    /// Group of that program, a number.
    case gid
    /// Path of its control group of version 2.
    case cgroup
    /// The sender's address.
    case clientAddress = "client_ip"
    /// Name or address of the destination.
    case host = "dst_host"
    case port = "dst_port"

    /// Whether it tells of a program, which only this host knows, and of its own programs alone.
    var isOfProgram: Bool {
      switch self {
      case .uid, .gid, .cgroup: true
      case .clientAddress, .host, .port: false
      }
    }
  }

  package enum Segment: Hashable, Sendable {
    /// Not empty, and never beside another literal one.
    case literal([UInt8])
    case placeholder(Placeholder)
  }

  package let segments: [Segment]

  /// Reads decoded bytes. Fails at braces around anything else, or around nothing.
  init(_ text: [UInt8]) throws(UpstreamURLError) {
    let (open, close) = (UInt8(ascii: "{"), UInt8(ascii: "}"))
    var segments: [Segment] = []
    var literal: [UInt8] = []
    var rest = text[...]
    while let byte = rest.popFirst() {
      guard byte == open || byte == close else {
        literal.append(byte)
        continue
      }
      if rest.first == byte {
        rest.removeFirst()
        literal.append(byte)
        continue
      }
      guard byte == open, let end = rest.firstIndex(of: close),
        let placeholder = Placeholder(rawValue: String(decoding: rest[..<end], as: UTF8.self))
      else { throw .unknownPlaceholder }
      rest = rest[(end + 1)...]
      if !literal.isEmpty { segments.append(.literal(literal)) }
      literal = []
      segments.append(.placeholder(placeholder))
    }
    if !literal.isEmpty { segments.append(.literal(literal)) }
    self.segments = segments
  }

  package var placeholders: Set<Placeholder> {
    Set(
      segments.compactMap { segment in
        if case .placeholder(let placeholder) = segment { placeholder } else { nil }
      })
  }

  /// Bytes that it has in any case: a placeholder's text has one at least.
  var minimumBytes: Int {
    segments.reduce(0) { sum, segment in
      if case .literal(let bytes) = segment { sum + bytes.count } else { sum + 1 }
    }
  }

  /// Whether it has this byte whatever the flow is.
  func contains(_ byte: UInt8) -> Bool {
    segments.contains { segment in
      if case .literal(let bytes) = segment { bytes.contains(byte) } else { false }
    }
  }

  /// As in a URL, from which it is read again as the same.
  var urlText: String {
    segments.map { segment in
      switch segment {
      case .literal(let bytes):
        percentEncoded(
          bytes.flatMap { byte in
            byte == UInt8(ascii: "{") || byte == UInt8(ascii: "}") ? [byte, byte] : [byte]
          })
      case .placeholder(let placeholder): "{\(placeholder.rawValue)}"
      }
    }.joined()
  }
}
