/// A host name of 1 to 255 bytes, as a SOCKS5 request can carry it (RFC 1928, section 5).
package struct HostName: Hashable, Sendable, CustomStringConvertible {
  package let text: String

  /// Nil for an empty name, one above 255 bytes, or one with a control character or a space.
  package init?(_ text: some StringProtocol) {
    guard (1...255).contains(text.utf8.count), text.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F })
    else { return nil }
    self.text = String(text)
  }

  package var description: String { text }
}

/// Where a connection should go: an address or a name, and a port.
package enum Endpoint: Hashable, Sendable {
  case address(SocketAddress)
  case name(HostName, port: UInt16)

  package var port: UInt16 {
    switch self {
    case .address(let address): address.port
    case .name(_, let port): port
    }
  }
}

extension Endpoint: CustomStringConvertible, LosslessStringConvertible {
  /// Parses `a.b.c.d:port`, `[v6]:port` and `name:port`; a name has neither colon nor brackets.
  package init?(_ text: some StringProtocol) {
    if let address = SocketAddress(text) {
      self = .address(address)
      return
    }
    guard let colon = text.lastIndex(of: ":"), let name = HostName(text[..<colon]),
      name.text.utf8.allSatisfy({ !":[]".utf8.contains($0) }),
      let port = UInt16(decimalPort: text[text.index(after: colon)...])
    else { return nil }
    self = .name(name, port: port)
  }

  package var description: String {
    switch self {
    case .address(let address): address.description
    case .name(let name, let port): "\(name):\(port)"
    }
  }
}
