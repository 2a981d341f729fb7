/// The protocol that an upstream speaks, and who we are to it.
package enum Dialect: Hashable, Sendable {
  case socks5(Credentials?)
  /// SOCKS5 by GSSAPI (RFC 1961).
  case gssapi(SecurityOffer)
  /// CONNECT of an HTTP proxy.
  case http(Credentials?)
  /// `takesNames`: SOCKS4a.
  case socks4(UserID?, takesNames: Bool)

  /// Whether what is said to the server can be protected by it, as GSSAPI does.
  package var isProtected: Bool {
    switch self {
    case .gssapi: true
    case .socks5, .http, .socks4: false
    }
  }

  /// Whether there is a way to ask for a relay of datagrams.
  package var hasDatagrams: Bool {
    switch self {
    case .socks5, .gssapi: true
    case .http, .socks4: false
    }
  }

  /// Whether IPv6 addresses can be asked for.
  package var hasIPv6: Bool {
    switch self {
    case .socks5, .gssapi, .http: true
    case .socks4: false
    }
  }

  /// Whether a handshake has several messages, which may go out in one write.
  package var canPipeline: Bool {
    switch self {
    case .socks5: true
    case .gssapi, .http, .socks4: false
    }
  }
}
