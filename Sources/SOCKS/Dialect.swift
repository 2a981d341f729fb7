/// The protocol that an upstream speaks, and who we are to it.
package enum Dialect: Hashable, Sendable {
  case socks5(Credentials?)
  /// CONNECT of an HTTP proxy.
  case http(Credentials?)

  /// Whether there is a way to ask for a relay of datagrams.
  package var hasDatagrams: Bool {
    switch self {
    case .socks5: true
    case .http: false
    }
  }

  /// Whether a handshake has several messages, which may go out in one write.
  package var canPipeline: Bool {
    switch self {
    case .socks5: true
    case .http: false
    }
  }
}
