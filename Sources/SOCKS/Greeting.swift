/// The client's first message (RFC 1928, section 3):
///
///     +-----+----------+----------+
///     | VER | NMETHODS | METHODS  |
///     +-----+----------+----------+
///     | 5   | 1        | 0 to 255 |
///     +-----+----------+----------+
struct Greeting: Message {
  static let maximumBytes = 2 + 255
  /// What `encode` writes at most: one of each method that we speak.
  static let maximumOutputBytes = 2 + 2

  var offersNoAuthentication = false
  var offersUsernamePassword = false

  func offers(_ method: Method) -> Bool {
    switch method {
    case .noAuthentication: offersNoAuthentication
    case .usernamePassword: offersUsernamePassword
    case .gssapi, .noAcceptable, .other: false
    }
  }

  func encode(into output: inout OutputSpan<UInt8>) {
    output.append(socksVersion)
    output.append((offersNoAuthentication ? 1 : 0) + (offersUsernamePassword ? 1 : 0))
    if offersNoAuthentication { output.append(Method.noAuthentication.rawValue) }
    if offersUsernamePassword { output.append(Method.usernamePassword.rawValue) }
  }

  static func decode(from bytes: Span<UInt8>) throws(Violation) -> Decoding<Greeting> {
    guard bytes.count >= 1 else { return .incomplete(neededBytes: 1) }
    guard bytes[0] == socksVersion else { throw .wrongVersion(bytes[0]) }
    guard bytes.count >= 2 else { return .incomplete(neededBytes: 2) }
    let end = 2 + Int(bytes[1])
    guard bytes.count >= end else { return .incomplete(neededBytes: end) }
    var greeting = Greeting()
    for index in 2..<end {
      switch Method(rawValue: bytes[index]) {
      case .noAuthentication: greeting.offersNoAuthentication = true
      case .usernamePassword: greeting.offersUsernamePassword = true
      case .gssapi, .noAcceptable, .other: break
      }
    }
    return .complete(greeting)
  }
}

/// The server's answer to a greeting (RFC 1928, section 3):
///
///     +-----+--------+
///     | VER | METHOD |
///     +-----+--------+
///     | 5   | 1      |
///     +-----+--------+
struct MethodSelection: Message {
  static let bytes = 2

  let method: Method

  func encode(into output: inout OutputSpan<UInt8>) {
    output.append(socksVersion)
    output.append(method.rawValue)
  }

  static func decode(from bytes: Span<UInt8>) throws(Violation) -> Decoding<MethodSelection> {
    guard bytes.count >= 1 else { return .incomplete(neededBytes: 1) }
    guard bytes[0] == socksVersion else { throw .wrongVersion(bytes[0]) }
    guard bytes.count >= 2 else { return .incomplete(neededBytes: 2) }
    return .complete(MethodSelection(method: Method(rawValue: bytes[1])))
  }
}

/// The first byte of every message of RFC 1928.
let socksVersion: UInt8 = 5
