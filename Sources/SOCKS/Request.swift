internal import Addressing

/// What the client wants (RFC 1928, section 4):
///
///     +-----+-----+-----+---------------+
///     | VER | CMD | RSV | address field |
///     +-----+-----+-----+---------------+
///     | 5   | 1   | 0   | variable      |
///     +-----+-----+-----+---------------+
///
/// RSV is not checked: real peers leave garbage in it.
struct Request: Message {
  static let maximumBytes = 3 + AddressField.maximumBytes

  let command: Command
  /// Nil for a name that no host can have.
  let destination: Endpoint?

  static func encode(
    _ command: Command, to destination: Endpoint, into output: inout OutputSpan<UInt8>
  ) {
    output.append(socksVersion)
    output.append(command.rawValue)
    output.append(0)
    AddressField.encode(destination, into: &output)
  }

  static func decode(from bytes: Span<UInt8>) throws(Violation) -> Decoding<Request> {
    guard bytes.count >= 1 else { return .incomplete(neededBytes: 1) }
    guard bytes[0] == socksVersion else { throw .wrongVersion(bytes[0]) }
    guard bytes.count >= 3 else { return .incomplete(neededBytes: 3) }
    switch try AddressField.decode(from: bytes, at: 3) {
    case .incomplete(let neededBytes):
      return .incomplete(neededBytes: neededBytes)
    case .complete(let destination):
      return .complete(
        Request(command: Command(rawValue: bytes[1]), destination: destination))
    }
  }
}
