/// Why a server turned a client away.
package enum Rejection: Error, Hashable, Sendable {
  /// The client does not offer the one method that we take; a SOCKS4 client cannot offer any.
  case noAcceptableMethod
  /// The user name or the password is wrong.
  case wrongCredentials
  /// Neither CONNECT nor, where they are allowed, UDP ASSOCIATE and BIND.
  case commandNotSupported(Command)
  case protocolViolation(Violation)
  /// The caller's own answer to the request.
  case refused(ReplyCode)

  /// As metrics show it.
  package var name: String {
    switch self {
    case .noAcceptableMethod: "no_acceptable_method"
    case .wrongCredentials: "wrong_credentials"
    case .commandNotSupported: "command_not_supported"
    case .protocolViolation(let violation): violation.name
    case .refused(let code): "reply_\(code.name)"
    }
  }
}

extension Rejection: CustomStringConvertible {
  package var description: String {
    switch self {
    case .noAcceptableMethod: "the client does not offer the authentication method we need"
    case .wrongCredentials: "the client sent a wrong user name or password"
    case .commandNotSupported(let command): "the client asked for \(command), which is not offered"
    case .protocolViolation(let violation): "not a SOCKS client: \(violation)"
    case .refused(let code): "we refused: \(code)"
    }
  }
}
