/// How a client proves who it is (RFC 1928, section 3).
package enum Method: Hashable, Sendable {
  case noAuthentication
  /// RFC 1961.
  case gssapi
  case usernamePassword
  /// The server's answer when it takes none of the methods that were offered.
  case noAcceptable
  /// The ranges for IANA and private use.
  case other(UInt8)

  package init(rawValue: UInt8) {
    switch rawValue {
    case 0x00: self = .noAuthentication
    case 0x01: self = .gssapi
    case 0x02: self = .usernamePassword
    case 0xFF: self = .noAcceptable
    default: self = .other(rawValue)
    }
  }

  package var rawValue: UInt8 {
    switch self {
    case .noAuthentication: 0x00
    case .gssapi: 0x01
    case .usernamePassword: 0x02
    case .noAcceptable: 0xFF
    case .other(let rawValue): rawValue
    }
  }
}
