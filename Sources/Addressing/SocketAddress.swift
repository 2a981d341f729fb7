/// An address and a port: where a socket is bound or connected.
package struct SocketAddress: Hashable, Sendable {
  package var address: IPAddress
  package var port: UInt16

  package init(_ address: IPAddress, _ port: UInt16) {
    self.address = address
    self.port = port
  }

  /// The same with an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`) turned into IPv4.
  package var unmapped: SocketAddress {
    if case .v6(let v6) = address, let v4 = v6.mappedIPv4 { return SocketAddress(.v4(v4), port) }
    return self
  }
}

extension SocketAddress: CustomStringConvertible, LosslessStringConvertible {
  /// Parses `a.b.c.d:port` and `[v6]:port`.
  package init?(_ text: some StringProtocol) {
    guard let colon = text.lastIndex(of: ":"),
      let port = UInt16(decimalPort: text[text.index(after: colon)...])
    else { return nil }
    let host = text[..<colon]
    if host.first == "[", host.last == "]" {
      guard let v6 = IPv6Address(host.dropFirst().dropLast()) else { return nil }
      self.init(.v6(v6), port)
    } else {
      guard let v4 = IPv4Address(host) else { return nil }
      self.init(.v4(v4), port)
    }
  }

  package var description: String {
    switch address {
    case .v4(let v4): "\(v4):\(port)"
    case .v6(let v6): "[\(v6)]:\(port)"
    }
  }
}

extension UInt16 {
  /// A port of one to five decimal digits, nothing else (no sign, no space).
  package init?(decimalPort text: some StringProtocol) {
    guard (1...5).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) })
    else { return nil }
    self.init(text)
  }
}
