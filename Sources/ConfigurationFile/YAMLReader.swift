internal import CLibyaml

/// Reads one YAML document (libyaml). Anchors, aliases and tags are refused: no setting needs them, and
/// aliases of aliases can make a few bytes into gigabytes.
struct YAMLReader: ~Copyable {
  /// Of a whole file.
  static let maximumBytes = 1 << 20
  /// Lists and mappings within each other.
  private static let maximumDepth = 16

  private let bytes: UnsafeBufferPointer<UInt8>
  /// Both on the heap, since libyaml keeps pointers into the one, and frees what the other points to.
  private let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
  private let event = UnsafeMutablePointer<yaml_event_t>.allocate(capacity: 1)

  /// The document's only value; nil if there is none.
  static func read(_ bytes: [UInt8]) throws(Problem) -> Node? {
    guard !bytes.isEmpty else { return nil }
    guard bytes.count <= maximumBytes else {
      throw Problem("expected at most \(maximumBytes) bytes", at: .start)
    }
    var result: Result<Node?, Problem>?
    // SAFETY: the parser reads from the bytes only within the call.
    bytes.withUnsafeBufferPointer { bytes in
      let reader = YAMLReader(bytes)
      result = Result { () throws(Problem) in try reader.document() }
    }
    guard let result else { preconditionFailure("the closure has run") }
    return try result.get()
  }

  private init(_ bytes: UnsafeBufferPointer<UInt8>) {
    self.bytes = bytes
    event.initialize(to: yaml_event_t())
    precondition(yaml_parser_initialize(parser) == 1, "out of memory")
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
    yaml_parser_set_input_string(parser, bytes.baseAddress, bytes.count)
  }

  deinit {
    yaml_event_delete(event)
    yaml_parser_delete(parser)
    event.deallocate()
    parser.deallocate()
  }

  private func document() throws(Problem) -> Node? {
    try advance()  // The stream's start.
    try advance()
    guard event.pointee.type == YAML_DOCUMENT_START_EVENT else { return nil }
    try advance()
    let node = try node(depth: 0)
    try advance()  // The document's end.
    try advance()
    guard event.pointee.type == YAML_STREAM_END_EVENT else {
      throw Problem("a second document begins here: expected one", at: place)
    }
    return node
  }

  /// The value that begins with the present event, whose last event is the present one afterwards.
  private func node(depth: Int) throws(Problem) -> Node {
    let start = place
    guard clx_yaml_is_decorated(event) == 0, event.pointee.type != YAML_ALIAS_EVENT else {
      throw Problem(
        "anchors (&), aliases (*) and tags (!) are not supported: write the value", at: start)
    }
    guard depth < Self.maximumDepth else {
      throw Problem("lists within lists without end", at: start)
    }
    switch event.pointee.type {
    case YAML_SCALAR_EVENT:
      return Node(content: .text(text, isPlain: clx_yaml_is_plain(event) != 0), place: start)
    case YAML_SEQUENCE_START_EVENT:
      var elements: [Node] = []
      try advance()
      while event.pointee.type != YAML_SEQUENCE_END_EVENT {
        elements.append(try node(depth: depth + 1))
        try advance()
      }
      return Node(content: .list(elements), place: start)
    case YAML_MAPPING_START_EVENT:
      var pairs: [Node.Pair] = []
      try advance()
      while event.pointee.type != YAML_MAPPING_END_EVENT {
        let key = try node(depth: depth + 1)
        try advance()
        pairs.append(Node.Pair(key: key, value: try node(depth: depth + 1)))
        try advance()
      }
      return Node(content: .mapping(pairs), place: start)
    default: preconditionFailure("libyaml has no other events where a value begins")
    }
  }

  private func advance() throws(Problem) {
    yaml_event_delete(event)
    guard yaml_parser_parse(parser, event) == 1 else {
      // After a failure libyaml has left an event of zeros.
      throw failure
    }
  }

  private var text: String {
    var count = 0
    // SAFETY: the text lives as long as the event, and is copied.
    guard let start = clx_yaml_text(event, &count) else { return "" }
    return String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self)
  }

  private var place: Place { Self.place(event.pointee.start_mark) }

  private static func place(_ mark: yaml_mark_t) -> Place {
    Place(line: Int(mark.line) + 1, column: Int(mark.column) + 1)
  }

  private var failure: Problem {
    let problem = parser.pointee.problem.map { String(cString: $0) } ?? "out of memory"
    let place =
      parser.pointee.error == YAML_READER_ERROR
      ? self.place(ofByte: parser.pointee.problem_offset) : Self.place(parser.pointee.problem_mark)
    return Problem("not YAML: \(problem)", at: place)
  }

  /// What cannot be decoded has an offset and no mark.
  private func place(ofByte offset: Int) -> Place {
    let before = bytes[..<min(offset, bytes.count)]
    let line =
      before.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).last ?? []
    return Place(
      line: before.count { $0 == UInt8(ascii: "\n") } + 1,
      column: String(decoding: line, as: UTF8.self).unicodeScalars.count + 1)
  }
}
