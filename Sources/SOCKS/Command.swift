/// What a client asks the server to do (RFC 1928, section 4).
package enum Command: Hashable, Sendable {
  case connect
  case bind
  case udpAssociate
  case other(UInt8)

  package init(rawValue: UInt8) {
    switch rawValue {
    case 0x01: self = .connect
    case 0x02: self = .bind
    case 0x03: self = .udpAssociate
    default: self = .other(rawValue)
    }
  }

  package var rawValue: UInt8 {
    switch self {
    case .connect: 0x01
    case .bind: 0x02
    case .udpAssociate: 0x03
    case .other(let rawValue): rawValue
    }
  }
}

extension Command: CustomStringConvertible {
  package var description: String {
    switch self {
    case .connect: "CONNECT"
    case .bind: "BIND"
    case .udpAssociate: "UDP ASSOCIATE"
    case .other(let rawValue): "command \(rawValue)"
    }
  }
}
