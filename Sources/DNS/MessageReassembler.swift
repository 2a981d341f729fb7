/// Takes a TCP stream apart into its messages, each of which stands behind its length in two bytes
/// (RFC 1035, section 4.2.2). What is kept is a part of one message.
package struct MessageReassembler: Sendable {
  private static let prefixBytes = 2

  private var prefixCount = 0
  private var length = 0
  private var message: [UInt8] = []

  package init() {}

  /// The next message, which may be empty; nil when `input` ends before it does. Takes from `input`,
  /// from `consumed` on, exactly what belongs to the message.
  package mutating func next(from input: Span<UInt8>, _ consumed: inout Int) -> [UInt8]? {
    while prefixCount < Self.prefixBytes {
      guard consumed < input.count else { return nil }
      length = length << 8 | Int(input[consumed])
      prefixCount += 1
      consumed += 1
    }
    let end = min(consumed + length - message.count, input.count)
    message.append(addingCapacity: end - consumed) { output in
      for index in consumed..<end { output.append(input[index]) }
    }
    consumed = end
    guard message.count == length else { return nil }
    let whole = message
    self = MessageReassembler()
    return whole
  }
}

extension [UInt8] {
  /// Appends `message`, of at most 65,535 bytes, as it goes into a TCP stream, `id` in place of its own.
  mutating func append(framed message: [UInt8], id: UInt16) {
    append(bigEndian: UInt16(message.count))
    append(bigEndian: id)
    append(contentsOf: message.dropFirst(Header.flags))
  }
}
