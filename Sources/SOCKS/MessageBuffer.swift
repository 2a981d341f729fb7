/// A message of the handshake that can be read from the wire.
protocol Message {
  /// Reads a message that begins with `bytes`: all of it, or a part.
  ///
  /// What is wrong is reported at the first byte that shows it, since a peer that speaks another
  /// protocol may never send as much as a whole message.
  static func decode(from bytes: Span<UInt8>) throws(Violation) -> Decoding<Self>
}

/// What came of reading a message.
enum Decoding<Value> {
  case complete(Value)
  /// The message is at least this long, which is more than was there.
  case incomplete(neededBytes: Int)

  func map<Other>(_ transform: (Value) -> Other) -> Decoding<Other> {
    switch self {
    case .complete(let value): .complete(transform(value))
    case .incomplete(let neededBytes): .incomplete(neededBytes: neededBytes)
    }
  }
}

/// The part of a message that has arrived, kept inline.
struct MessageBuffer<let capacity: Int>: Sendable {
  private var bytes = [capacity of UInt8](repeating: 0)
  private var count = 0

  /// The next message; nil when `input` ends before it does.
  ///
  /// Takes from `input`, from `consumed` on, exactly what belongs to the message. No message that is
  /// read through this buffer may be longer than `capacity`.
  mutating func next<Value: Message>(
    _: Value.Type, from input: Span<UInt8>, _ consumed: inout Int
  ) throws(Violation) -> Value? {
    while true {
      switch try Value.decode(from: bytes.span.extracting(first: count)) {
      case .complete(let message):
        count = 0
        return message
      case .incomplete(let neededBytes):
        while count < neededBytes {
          guard consumed < input.count else { return nil }
          bytes[count] = input[consumed]
          count += 1
          consumed += 1
        }
      }
    }
  }
}

extension MessageBuffer {
  /// The same for a client, whose handshake fails on what is no message.
  mutating func nextAnswer<Value: Message>(
    _ type: Value.Type, from input: Span<UInt8>, _ consumed: inout Int
  ) throws(HandshakeFailure) -> Value? {
    do {
      return try next(type, from: input, &consumed)
    } catch {
      throw .protocolViolation(error)
    }
  }
}
