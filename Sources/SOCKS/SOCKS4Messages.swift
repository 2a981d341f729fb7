internal import Addressing

/// What SOCKS4 asks for, and SOCKS4a, which has names (the protocols' descriptions by Ying-Da Lee,
/// "SOCKS: A protocol for TCP proxy across firewalls" and "SOCKS 4A"):
///
///     +----+----+---------+---------+----------+----+----------+----+
///     | VN | CD | DSTPORT | DSTIP   | USERID   | 0  | NAME     | 0  |
///     +----+----+---------+---------+----------+----+----------+----+
///     | 4  | 1  | 2       | 4       | variable | 1  | variable | 1  |
///     +----+----+---------+---------+----------+----+----------+----+
///
/// NAME and what ends it stand there only behind an address of 0.0.0.x, x not 0. A server takes an empty
/// USERID as well, and does not look at it: it proves nothing.
struct SOCKS4Request: Message {
  static let maximumBytes = 1 + 1 + 2 + 4 + UserID.maximumBytes + 1 + maximumNameBytes + 1

  /// The first byte of every request.
  static let version: UInt8 = 4
  private static let maximumNameBytes = 255
  private static let userStart = 1 + 1 + 2 + 4

  let command: Command
  /// Nil for a name that no host can have, or that does not end.
  let destination: Endpoint?

  /// 0.0.0.x, x not 0, which no host has: a name follows.
  private static let nameFollows = IPv4Address(bits: 1)

  /// Whether a request can carry it: IPv4 addresses but those that announce a name, and names where the
  /// server takes some.
  static func canName(_ destination: Endpoint, takesNames: Bool) -> Bool {
    switch destination {
    case .address(let target):
      if case .v4(let v4) = target.address { !(1...255).contains(v4.bits) } else { false }
    case .name: takesNames
    }
  }

  /// - Parameter destination: one that the request can carry.
  static func encode(
    _ command: Command, to destination: Endpoint, _ user: UserID?,
    into output: inout OutputSpan<UInt8>
  ) {
    output.append(version)
    output.append(command.rawValue)
    output.append(UInt8(destination.port >> 8))
    output.append(UInt8(truncatingIfNeeded: destination.port))
    let address =
      if case .address(let target) = destination, case .v4(let v4) = target.address { v4 } else {
        nameFollows
      }
    for shift in stride(from: 24, through: 0, by: -8) {
      output.append(UInt8(truncatingIfNeeded: address.bits >> UInt32(shift)))
    }
    for byte in user?.bytes ?? [] { output.append(byte) }
    output.append(0)
    guard case .name(let name, _) = destination else { return }
    for byte in name.text.utf8 { output.append(byte) }
    output.append(0)
  }

  static func decode(from bytes: Span<UInt8>) throws(Violation) -> Decoding<SOCKS4Request> {
    guard bytes.count >= 1 else { return .incomplete(neededBytes: 1) }
    guard bytes[0] == version else { throw .wrongVersion(bytes[0]) }
    guard bytes.count > userStart else { return .incomplete(neededBytes: userStart + 1) }
    guard let user = end(of: userStart, in: bytes) else {
      guard bytes.count - userStart <= UserID.maximumBytes else { throw .userIDTooLong }
      return .incomplete(neededBytes: bytes.count + 1)
    }
    let command = Command(rawValue: bytes[1])
    let port = UInt16(bytes[2]) << 8 | UInt16(bytes[3])
    let address = IPv4Address(bits: (4..<8).reduce(0) { $0 << 8 | UInt32(bytes[$1]) })
    guard (1...255).contains(address.bits) else {
      return .complete(
        SOCKS4Request(command: command, destination: .address(SocketAddress(.v4(address), port))))
    }
    let start = user + 1
    guard let end = end(of: start, in: bytes) else {
      guard bytes.count - start <= maximumNameBytes else {
        return .complete(SOCKS4Request(command: command, destination: nil))
      }
      return .incomplete(neededBytes: bytes.count + 1)
    }
    guard let utf8 = try? UTF8Span(validating: bytes.extracting(start..<end)),
      let name = HostName(String(copying: utf8))
    else { return .complete(SOCKS4Request(command: command, destination: nil)) }
    return .complete(SOCKS4Request(command: command, destination: .name(name, port: port)))
  }

  /// Where the zero is that ends the field from `start` on; nil if it has not come yet.
  private static func end(of start: Int, in bytes: Span<UInt8>) -> Int? {
    for index in start..<bytes.count where bytes[index] == 0 { return index }
    return nil
  }
}

/// What a client says first: the first byte tells which protocol it speaks.
enum Opening: Message {
  case greeting(Greeting)
  case request(SOCKS4Request)

  static func decode(from bytes: Span<UInt8>) throws(Violation) -> Decoding<Opening> {
    guard bytes.count >= 1, bytes[0] == SOCKS4Request.version else {
      return try Greeting.decode(from: bytes).map(Opening.greeting)
    }
    return try SOCKS4Request.decode(from: bytes).map(Opening.request)
  }
}

/// The server's answer:
///
///     +----+----+---------+---------+
///     | VN | CD | DSTPORT | DSTIP   |
///     +----+----+---------+---------+
///     | 0  | 1  | 2       | 4       |
///     +----+----+---------+---------+
///
/// Address and port mean nothing behind CONNECT. Behind BIND they are the listener, then the peer; zeros as the address stand for the server's own. A
/// failure ends at its code, like that of SOCKS5.
struct SOCKS4Reply: Message {
  static let bytes = 8

  let code: SOCKS4ReplyCode
  /// DSTIP and DSTPORT of what was granted.
  let bound: SocketAddress?

  /// - Parameter bound: zeros are written for an IPv6 address, which the protocol has no room for.
  static func encode(
    _ code: SOCKS4ReplyCode, bound: SocketAddress, into output: inout OutputSpan<UInt8>
  ) {
    output.append(0)
    output.append(code.rawValue)
    output.append(UInt8(bound.port >> 8))
    output.append(UInt8(truncatingIfNeeded: bound.port))
    let address = if case .v4(let v4) = bound.address { v4 } else { IPv4Address.any }
    for shift in stride(from: 24, through: 0, by: -8) {
      output.append(UInt8(truncatingIfNeeded: address.bits >> UInt32(shift)))
    }
  }

  static func decode(from bytes: Span<UInt8>) throws(Violation) -> Decoding<SOCKS4Reply> {
    guard bytes.count >= 1 else { return .incomplete(neededBytes: 1) }
    guard bytes[0] == 0 else { throw .wrongReplyVersion(bytes[0]) }
    guard bytes.count >= 2 else { return .incomplete(neededBytes: 2) }
    let code = SOCKS4ReplyCode(rawValue: bytes[1])
    guard code == .granted else { return .complete(SOCKS4Reply(code: code, bound: nil)) }
    guard bytes.count >= Self.bytes else { return .incomplete(neededBytes: Self.bytes) }
    let port = UInt16(bytes[2]) << 8 | UInt16(bytes[3])
    let address = IPv4Address(bits: (4..<8).reduce(0) { $0 << 8 | UInt32(bytes[$1]) })
    return .complete(SOCKS4Reply(code: code, bound: SocketAddress(.v4(address), port)))
  }
}

/// The CD field of a SOCKS4 server's answer.
package enum SOCKS4ReplyCode: Hashable, Sendable {
  case granted
  /// Rejected or failed, for any reason.
  case rejected
  /// The server found no identd at the client's host, which it wants to ask who we are.
  case noIdentity
  /// The identd there says that we are another user than the request does.
  case otherIdentity
  case other(UInt8)

  /// What a server says in place of a code of SOCKS5.
  init(_ code: ReplyCode) { self = code == .succeeded ? .granted : .rejected }

  package init(rawValue: UInt8) {
    switch rawValue {
    case 0x5A: self = .granted
    case 0x5B: self = .rejected
    case 0x5C: self = .noIdentity
    case 0x5D: self = .otherIdentity
    default: self = .other(rawValue)
    }
  }

  package var rawValue: UInt8 {
    switch self {
    case .granted: 0x5A
    case .rejected: 0x5B
    case .noIdentity: 0x5C
    case .otherIdentity: 0x5D
    case .other(let rawValue): rawValue
    }
  }

  /// What it says of the destination, in the words of SOCKS5; nil where the server did not get as far
  /// as that.
  package var replyCode: ReplyCode? {
    switch self {
    case .granted: .succeeded
    case .rejected: .generalFailure
    case .noIdentity, .otherIdentity: nil
    case .other(let rawValue): .other(rawValue)
    }
  }
}

extension SOCKS4ReplyCode: CustomStringConvertible {
  package var description: String {
    switch self {
    case .granted: "granted"
    case .rejected: "rejected or failed"
    case .noIdentity: "no identd at the client"
    case .otherIdentity: "the client's identd says that the user is another one"
    case .other(let rawValue): "unassigned code \(rawValue)"
    }
  }
}

/// Who we are to a SOCKS4 server: 1 to 255 bytes, none of them 0. It proves nothing and is no secret.
package struct UserID: Hashable, Sendable {
  package static let maximumBytes = 255

  let bytes: [UInt8]
  /// What flows fill in; nil: the same for all.
  var template: FlowTemplate?

  /// Nil for what no request can carry.
  package init?(_ bytes: some Sequence<UInt8>) {
    self.bytes = Array(bytes)
    guard (1...Self.maximumBytes).contains(self.bytes.count), !self.bytes.contains(0) else {
      return nil
    }
  }
}
