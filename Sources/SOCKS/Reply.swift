internal import Addressing

/// The server's answer to a request (RFC 1928, section 6):
///
///     +-----+-----+-----+---------------+
///     | VER | REP | RSV | address field |
///     +-----+-----+-----+---------------+
///     | 5   | 1   | 0   | variable      |
///     +-----+-----+-----+---------------+
///
/// RSV is not checked: real peers leave garbage in it. A failure ends at its code: what follows tells
/// nothing more, and some servers close before they have sent it.
struct Reply: Message {
  static let maximumBytes = 3 + AddressField.maximumBytes
  /// What `encode` writes at most: our servers are bound to addresses.
  static let maximumOutputBytes = 3 + AddressField.maximumAddressBytes

  let code: ReplyCode
  /// BND.ADDR and BND.PORT of a success; nil for a name that no host can have, as the empty one.
  let bound: Endpoint?
  /// BND.PORT of a success, also behind such a name; else 0.
  let boundPort: UInt16

  static func encode(
    _ code: ReplyCode, bound: SocketAddress, into output: inout OutputSpan<UInt8>
  ) {
    output.append(socksVersion)
    output.append(code.rawValue)
    output.append(0)
    AddressField.encode(bound, into: &output)
  }

  static func decode(from bytes: Span<UInt8>) throws(Violation) -> Decoding<Reply> {
    guard bytes.count >= 1 else { return .incomplete(neededBytes: 1) }
    guard bytes[0] == socksVersion else { throw .wrongVersion(bytes[0]) }
    guard bytes.count >= 2 else { return .incomplete(neededBytes: 2) }
    let code = ReplyCode(rawValue: bytes[1])
    guard code == .succeeded else {
      return .complete(Reply(code: code, bound: nil, boundPort: 0))
    }
    switch try AddressField.decode(from: bytes, at: 3) {
    case .incomplete(let neededBytes): return .incomplete(neededBytes: neededBytes)
    case .complete(let bound):
      let port = bound?.port ?? AddressField.portBehindName(in: bytes, at: 3)
      return .complete(Reply(code: code, bound: bound, boundPort: port))
    }
  }
}
