/// A user name and a password on their way to the server (RFC 1929, section 2):
///
///     +-----+------+----------+------+----------+
///     | VER | ULEN | UNAME    | PLEN | PASSWD   |
///     +-----+------+----------+------+----------+
///     | 1   | 1    | 1 to 255 | 1    | 1 to 255 |
///     +-----+------+----------+------+----------+
///
/// An empty field is read too: it is nobody's name or password, so it is refused like a wrong one.
struct Authentication: Message {
  /// The first byte of both messages of RFC 1929.
  static let version: UInt8 = 1
  static let maximumFieldBytes = 255
  static let maximumBytes = 1 + 1 + maximumFieldBytes + 1 + maximumFieldBytes

  let username: [UInt8]
  let password: [UInt8]

  static func encode(_ credentials: Credentials, into output: inout OutputSpan<UInt8>) {
    output.append(version)
    output.append(UInt8(credentials.username.count))
    for byte in credentials.username { output.append(byte) }
    output.append(UInt8(credentials.password.count))
    for byte in credentials.password { output.append(byte) }
  }

  static func decode(from bytes: Span<UInt8>) throws(Violation) -> Decoding<Authentication> {
    guard bytes.count >= 1 else { return .incomplete(neededBytes: 1) }
    guard bytes[0] == version else { throw .wrongAuthenticationVersion(bytes[0]) }
    guard bytes.count >= 2 else { return .incomplete(neededBytes: 2) }
    let passwordLength = 2 + Int(bytes[1])
    guard bytes.count > passwordLength else {
      return .incomplete(neededBytes: passwordLength + 1)
    }
    let end = passwordLength + 1 + Int(bytes[passwordLength])
    guard bytes.count >= end else { return .incomplete(neededBytes: end) }
    return .complete(
      Authentication(
        username: (2..<passwordLength).map { bytes[$0] },
        password: (passwordLength + 1..<end).map { bytes[$0] }))
  }
}

/// The server's answer to a user name and password (RFC 1929, section 2):
///
///     +-----+--------+
///     | VER | STATUS |
///     +-----+--------+
///     | 1   | 1      |   0 is success
///     +-----+--------+
struct AuthenticationStatus: Message {
  static let bytes = 2

  let status: UInt8

  var isSuccess: Bool { status == 0 }

  func encode(into output: inout OutputSpan<UInt8>) {
    output.append(Authentication.version)
    output.append(status)
  }

  static func decode(from bytes: Span<UInt8>) throws(Violation) -> Decoding<AuthenticationStatus> {
    guard bytes.count >= 1 else { return .incomplete(neededBytes: 1) }
    guard bytes[0] == Authentication.version else { throw .wrongAuthenticationVersion(bytes[0]) }
    guard bytes.count >= 2 else { return .incomplete(neededBytes: 2) }
    return .complete(AuthenticationStatus(status: bytes[1]))
  }
}
