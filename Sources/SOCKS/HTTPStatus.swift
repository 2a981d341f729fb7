/// The status code of an HTTP response (RFC 9110, section 15): three digits, 0 to 999.
package struct HTTPStatus: Hashable, Sendable {
  package let code: UInt16

  package init(_ code: UInt16) { self.code = code }

  /// The tunnel is there: any 2xx (RFC 9110, section 9.3.6).
  package var isSuccess: Bool { code / 100 == 2 }
  /// Another response follows this one.
  var isInformational: Bool { code / 100 == 1 }
  /// The proxy wants credentials, or others (RFC 9110, section 15.5.8). Before there is a tunnel 401 is
  /// its own too: tinyproxy has 407 for none and 401 for wrong ones.
  package var wantsCredentials: Bool { code == 407 || code == 401 }

  /// What servers that have no CONNECT answer to it.
  package var refusesTunnels: Bool { code == 400 || code == 405 || code == 501 }

  /// What it says of the destination, in the words of SOCKS5; nil where it says nothing of that.
  package var replyCode: ReplyCode? {
    switch code {
    case 200...299: .succeeded
    case 403: .notAllowed
    case 404: .hostUnreachable
    case 504: .ttlExpired
    // What proxies say of every target that they do not reach.
    case 500, 502, 503: .generalFailure
    default: nil
    }
  }
}

extension HTTPStatus: CustomStringConvertible {
  package var description: String { "HTTP status \(code)" }
}
