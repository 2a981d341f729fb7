/// Reads an input field by field; what lies behind its end is zeros.
struct Fields {
  private var rest: ArraySlice<UInt8>

  init(_ input: Span<UInt8>) { rest = input.indices.map { input[$0] }[...] }

  /// What has not been read.
  var remainder: [UInt8] { Array(rest) }

  mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }

  /// So many bytes, or as many as there are.
  mutating func bytes(_ count: Int) -> [UInt8] {
    defer { rest = rest.dropFirst(count) }
    return Array(rest.prefix(count))
  }
}
