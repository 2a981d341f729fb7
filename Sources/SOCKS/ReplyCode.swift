/// The REP field of a reply (RFC 1928, section 6).
package enum ReplyCode: Hashable, Sendable {
  case succeeded
  case generalFailure
  case notAllowed
  case networkUnreachable
  case hostUnreachable
  case connectionRefused
  case ttlExpired
  case commandNotSupported
  case addressTypeNotSupported
  /// A code that RFC 1928 leaves unassigned.
  case other(UInt8)

  package init(rawValue: UInt8) {
    switch rawValue {
    case 0: self = .succeeded
    case 1: self = .generalFailure
    case 2: self = .notAllowed
    case 3: self = .networkUnreachable
    case 4: self = .hostUnreachable
    case 5: self = .connectionRefused
    case 6: self = .ttlExpired
    case 7: self = .commandNotSupported
    case 8: self = .addressTypeNotSupported
    default: self = .other(rawValue)
    }
  }

  package var rawValue: UInt8 {
    switch self {
    case .succeeded: 0
    case .generalFailure: 1
    case .notAllowed: 2
    case .networkUnreachable: 3
    case .hostUnreachable: 4
    case .connectionRefused: 5
    case .ttlExpired: 6
    case .commandNotSupported: 7
    case .addressTypeNotSupported: 8
    case .other(let rawValue): rawValue
    }
  }

  /// As metrics show it; one name for all unassigned codes, so that a peer cannot invent new ones.
  package var name: String {
    switch self {
    case .succeeded: "succeeded"
    case .generalFailure: "general_failure"
    case .notAllowed: "not_allowed"
    case .networkUnreachable: "network_unreachable"
    case .hostUnreachable: "host_unreachable"
    case .connectionRefused: "connection_refused"
    case .ttlExpired: "ttl_expired"
    case .commandNotSupported: "command_not_supported"
    case .addressTypeNotSupported: "address_type_not_supported"
    case .other: "other"
    }
  }
}

extension ReplyCode: CustomStringConvertible {
  package var description: String {
    switch self {
    case .succeeded: "succeeded"
    case .generalFailure: "general failure"
    case .notAllowed: "not allowed by the server's rules"
    case .networkUnreachable: "network unreachable"
    case .hostUnreachable: "host unreachable"
    case .connectionRefused: "connection refused"
    case .ttlExpired: "TTL expired"
    case .commandNotSupported: "command not supported"
    case .addressTypeNotSupported: "address type not supported"
    case .other(let rawValue): "unassigned code \(rawValue)"
    }
  }
}
