package import Addressing

/// Where captured connections go: `socks5://[user[:password]@]host[:port][?gssapi]`, the same with `http`, with
/// `socks4` or `socks4a` and no password, or with `/path` for host and port; or `embedded` or
/// `direct`.
package enum UpstreamURL: Hashable, Sendable {
  /// A SOCKS5 server; `credentials` nil for one that asks for none.
  case socks5(server: Server, credentials: Login?)
  /// The same by GSSAPI; `credentials` nil where nothing else will do.
  case gssapi(server: Server, security: Security, credentials: Login?)
  /// An HTTP proxy that takes CONNECT.
  case http(server: Server, credentials: Login?)
  /// A SOCKS4 server; `user` nil where it asks for none.
  case socks4(server: Server, user: User?)
  /// The same that takes names.
  case socks4a(server: Server, user: User?)
  /// The SOCKS5 server in this process.
  case embedded
  /// None: TCP goes straight to its destination, and UDP through the SOCKS5 server in this process.
  case direct

  /// Where a server listens.
  package enum Server: Hashable, Sendable {
    case host(Endpoint)
    case socket(SocketPath)
  }

  /// A user name and a password of 1 to 255 bytes each (RFC 1929, section 2), decoded.
  package struct Login: Hashable, Sendable {
    package let username: IdentityTemplate
    /// Nil where the URL leaves it to another source (`setPassword`).
    package fileprivate(set) var password: IdentityTemplate?
  }

  /// A user of SOCKS4: 1 to 255 bytes, decoded, none of them 0. It is no secret.
  package struct User: Hashable, Sendable {
    package let name: IdentityTemplate
  }

  /// Where it listens; nil for the server in this process.
  package var server: Server? {
    switch self {
    case .socks5(let server, _), .gssapi(let server, _, _), .http(let server, _),
      .socks4(let server, _), .socks4a(let server, _):
      server
    case .embedded, .direct: nil
    }
  }

  /// The schemes of URLs; `socks5h` means `socks5`.
  fileprivate enum Scheme: String {
    case socks5
    case socks5h
    case http
    case socks4
    case socks4a

    /// Whether there is GSSAPI.
    var hasSecurity: Bool {
      switch self {
      case .socks5, .socks5h: true
      case .http, .socks4, .socks4a: false
      }
    }

    /// The port that IANA registered for SOCKS; for proxies, which have none, that of their
    /// alternative to a web server's (`http-alt`), where most documentation has them.
    var defaultPort: UInt16 {
      switch self {
      case .socks5, .socks5h, .socks4, .socks4a: 1080
      case .http: 8080
      }
    }
  }

  /// Parses a URL (RFC 3986); the scheme is read in any case.
  ///
  /// `?gssapi` behind a SOCKS5 server is described at `Security`. User, password and path are percent-decoded. A `/` or `@` in a user or password may also stand as
  /// it is, except a `/` at the beginning of the user: behind that everything is the path. A single
  /// slash may follow the host and port; the host `localhost` may precede a path, as curl has it.
  package init(_ text: some StringProtocol) throws(UpstreamURLError) {
    switch text.lowercased() {
    case "embedded":
      self = .embedded
      return
    case "direct":
      self = .direct
      return
    default: break
    }
    let bytes = ArraySlice(text.utf8)
    guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")),
      bytes[colon...].starts(with: "://".utf8), colon > bytes.startIndex,
      bytes[..<colon].allSatisfy({ isLetterOrDigit($0) || "+-.".utf8.contains($0) })
    else { throw .noScheme }
    let schemeText = String(decoding: bytes[..<colon], as: UTF8.self).lowercased()
    guard let scheme = Scheme(rawValue: schemeText) else { throw .schemeNotSupported(schemeText) }

    var (authority, query) = Self.splitQuery(bytes[(colon + 3)...])
    var login: ArraySlice<UInt8>?
    if authority.first != UInt8(ascii: "/"),
      let at = authority.lastIndex(of: UInt8(ascii: "@"))
    {
      login = authority[..<at]
      authority = authority[(at + 1)...]
    }
    guard query == nil || scheme.hasSecurity else { throw .securityNotSupported(schemeText) }
    switch scheme {
    case .socks5, .socks5h:
      let credentials = try login.map(Login.init)
      let server = try Server(authority, defaultPort: scheme.defaultPort)
      if let query {
        let security = try Security(query)
        _ = try security.service(at: server)
        self = .gssapi(server: server, security: security, credentials: credentials)
      } else {
        self = .socks5(server: server, credentials: credentials)
      }
    case .http:
      let credentials = try login.map(Login.init)
      // The first colon of what is sent parts them (RFC 7617, section 2).
      guard credentials?.username.contains(UInt8(ascii: ":")) != true else {
        throw .colonInUsername
      }
      self = .http(
        server: try Server(authority, defaultPort: scheme.defaultPort), credentials: credentials)
    case .socks4:
      let user = try login.map(User.init)
      self = .socks4(server: try Server(authority, defaultPort: scheme.defaultPort), user: user)
    case .socks4a:
      let user = try login.map(User.init)
      self = .socks4a(server: try Server(authority, defaultPort: scheme.defaultPort), user: user)
    }
  }
}

extension UpstreamURL {
  /// What listens there, for people.
  package var serverName: String {
    switch self {
    case .socks5, .gssapi, .embedded, .direct: "SOCKS5 server"
    case .http: "HTTP proxy"
    case .socks4, .socks4a: "SOCKS4 server"
    }
  }

  /// Whether it names a user, and leaves it to others to say the password.
  package var lacksPassword: Bool { login.map { $0.password == nil } ?? false }

  package var hasPassword: Bool { login?.password != nil }

  /// What flows fill in in user and password.
  package var placeholders: Set<IdentityTemplate.Placeholder> {
    switch self {
    case .socks5(_, let login), .gssapi(_, _, let login), .http(_, let login):
      (login?.username.placeholders ?? []).union(login?.password?.placeholders ?? [])
    case .socks4(_, let user), .socks4a(_, let user): user?.name.placeholders ?? []
    case .embedded, .direct: []
    }
  }

  private var login: Login? {
    switch self {
    case .socks5(_, let login), .gssapi(_, _, let login), .http(_, let login): login
    case .socks4, .socks4a, .embedded, .direct: nil
    }
  }

  /// Takes the password that it lacks.
  package mutating func setPassword(_ password: [UInt8]) throws(UpstreamURLError) {
    precondition(lacksPassword)
    switch self {
    case .socks5(let server, var login?):
      try login.setPassword(password)
      self = .socks5(server: server, credentials: login)
    case .gssapi(let server, let security, var login?):
      try login.setPassword(password)
      self = .gssapi(server: server, security: security, credentials: login)
    case .http(let server, var login?):
      try login.setPassword(password)
      self = .http(server: server, credentials: login)
    case .socks5, .gssapi, .http, .socks4, .socks4a, .embedded, .direct: break
    }
  }

  /// Whether the protocol has IPv6 addresses.
  package var hasIPv6: Bool {
    switch self {
    case .socks5, .gssapi, .http, .embedded, .direct: true
    case .socks4, .socks4a: false
    }
  }
}

extension UpstreamURL {
  /// Whether the protocol can relay datagrams.
  package var hasDatagrams: Bool {
    switch self {
    case .socks5, .gssapi, .embedded, .direct: true
    case .http, .socks4, .socks4a: false
    }
  }

  /// Whether GSSAPI protects what passes.
  var isProtected: Bool {
    if case .gssapi = self { true } else { false }
  }

  /// Whether it is this process that connects to destinations.
  package var isThisProcess: Bool { server == nil }
}

extension UpstreamURL.Server: CustomStringConvertible {
  /// Hosts that may stand before a path.
  private static let hostsOfSockets = ["", "localhost"]

  /// Reads `host[:port]`, with or without a slash behind it, or `[localhost]/path`.
  init(_ text: ArraySlice<UInt8>, defaultPort: UInt16) throws(UpstreamURLError) {
    let slash = text.firstIndex(of: UInt8(ascii: "/")) ?? text.endIndex
    let (authority, path) = (text[..<slash], text[slash...])
    guard path.count > 1 else {
      self = .host(try endpoint(authority, defaultPort: defaultPort))
      return
    }
    let host = String(decoding: authority, as: UTF8.self).lowercased()
    guard Self.hostsOfSockets.contains(host) else { throw .path }
    let bytes = try percentDecoded(path)
    guard !bytes.contains(0) else { throw .zeroByteInPath }
    guard let path = SocketPath(bytes) else { throw .pathTooLong }
    self = .socket(path)
  }

  /// As in a URL.
  package var description: String {
    switch self {
    case .host(let endpoint): "\(endpoint)"
    case .socket(let path): percentEncoded(path.bytes, except: "/")
    }
  }
}

extension UpstreamURL: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// The URL with its port, and with `***` for the password.
  package var description: String {
    switch self {
    case .embedded: "embedded"
    case .direct: "direct"
    case .socks5(let server, nil): "socks5://\(server)"
    case .socks5(let server, let login?): "socks5://\(login)@\(server)"
    case .gssapi(let server, let security, nil): "socks5://\(server)\(security)"
    case .gssapi(let server, let security, let login?):
      "socks5://\(login)@\(server)\(security)"
    case .http(let server, nil): "http://\(server)"
    case .http(let server, let login?): "http://\(login)@\(server)"
    case .socks4(let server, nil): "socks4://\(server)"
    case .socks4(let server, let user?): "socks4://\(user)@\(server)"
    case .socks4a(let server, nil): "socks4a://\(server)"
    case .socks4a(let server, let user?): "socks4a://\(user)@\(server)"
    }
  }

  package var debugDescription: String { description }
  package var customMirror: Mirror { Mirror(self, children: []) }
}

extension UpstreamURL.Login: CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable
{
  private static let maximumBytes = 255

  /// Reads `user` or `user:password`; the first colon parts them.
  init(_ text: ArraySlice<UInt8>) throws(UpstreamURLError) {
    let colon = text.firstIndex(of: UInt8(ascii: ":")) ?? text.endIndex
    username = try IdentityTemplate(percentDecoded(text[..<colon]))
    guard username.minimumBytes > 0 else { throw .emptyUsername }
    guard username.minimumBytes <= Self.maximumBytes else { throw .usernameTooLong }
    guard colon < text.endIndex else { return }
    try setPassword(try percentDecoded(text[colon...].dropFirst()))
  }

  fileprivate mutating func setPassword(_ password: [UInt8]) throws(UpstreamURLError) {
    let template = try IdentityTemplate(password)
    guard template.minimumBytes > 0 else { throw .emptyPassword }
    guard template.minimumBytes <= Self.maximumBytes else { throw .passwordTooLong }
    self.password = template
  }

  /// The user, percent-encoded where a URL needs it, and `***` where there is a password.
  package var description: String {
    username.urlText + (password == nil ? "" : ":***")
  }
  package var debugDescription: String { description }
  package var customMirror: Mirror { Mirror(self, children: []) }
}

extension UpstreamURL.User: CustomStringConvertible {
  private static let maximumBytes = 255

  init(_ text: ArraySlice<UInt8>) throws(UpstreamURLError) {
    guard !text.contains(UInt8(ascii: ":")) else { throw .passwordNotSupported }
    name = try IdentityTemplate(percentDecoded(text))
    guard name.minimumBytes > 0 else { throw .emptyUsername }
    guard name.minimumBytes <= Self.maximumBytes else { throw .usernameTooLong }
    guard !name.contains(0) else { throw .zeroByteInUsername }
  }

  /// Percent-encoded where a URL needs it.
  package var description: String { name.urlText }
}

/// Why a text is not an upstream. The texts never repeat what may be a password.
package enum UpstreamURLError: Error, Hashable, Sendable {
  case noScheme
  case schemeNotSupported(String)
  case malformedEscape
  case emptyUsername
  case usernameTooLong
  case colonInUsername
  case zeroByteInUsername
  case emptyPassword
  case passwordTooLong
  case passwordNotSupported
  case unknownPlaceholder
  case emptyHost
  case malformedHost
  case malformedIPv4Address
  case malformedIPv6Address
  case bareIPv6Address
  case portNotANumber
  /// The port as it was written: decimal digits.
  case portOutOfRange(String)
  case path
  case pathTooLong
  case zeroByteInPath
  case securityNotSupported(String)
  case malformedService
  case serviceWithoutHost
  case malformedProtection
  case queryFieldNotSupported
}

extension UpstreamURLError: CustomStringConvertible {
  private static let expectation = """
    socks5://[user[:password]@]host[:port][?gssapi], socks5://[user[:password]@]/path, \
    http://[user[:password]@]host[:port], socks4[a]://[user@]host[:port], embedded or direct
    """

  private static let placeholders = IdentityTemplate.Placeholder.allCases
    .map { "{\($0.rawValue)}" }.joined(separator: ", ")

  package var description: String {
    switch self {
    case .noScheme: "upstream without a scheme: expected \(Self.expectation)"
    case .schemeNotSupported(let scheme):
      "upstream scheme \(scheme): expected \(Self.expectation)"
    case .malformedEscape:
      "upstream user, password or path: % without two hexadecimal digits (the sign itself is %25)"
    case .emptyUsername: "upstream user name is empty: expected 1 to 255 bytes"
    case .usernameTooLong: "upstream user name longer than 255 bytes"
    case .colonInUsername: "upstream user name with a colon: HTTP cannot carry it"
    case .zeroByteInUsername: "upstream user name contains a zero byte (%00)"
    case .passwordNotSupported:
      "upstream user with a password: SOCKS4 has none, expected user@ (a colon in the name is %3A)"
    case .unknownPlaceholder:
      "upstream user or password with a brace that begins or ends none of \(Self.placeholders): "
        + "write {{ or }} for the brace itself"
    case .emptyPassword:
      "upstream password is empty: expected 1 to 255 bytes, or no colon behind a user whose "
        + "password comes from elsewhere"
    case .passwordTooLong: "upstream password longer than 255 bytes"
    case .emptyHost:
      "upstream without a host: expected a name, an address or the path of a socket after ://"
    case .malformedHost:
      "upstream host is not a name: expected letters, digits, dots and hyphens, up to 255 bytes"
    case .malformedIPv4Address:
      "upstream host ends in a number but is not an IPv4 address such as 192.0.2.1"
    case .malformedIPv6Address:
      "upstream host in brackets is not an IPv6 address such as [2001:db8::1]"
    case .bareIPv6Address: "upstream IPv6 address without brackets: expected [2001:db8::1]:1080"
    case .portNotANumber: "upstream port is not a number between 1 and 65535"
    case .portOutOfRange(let port): "upstream port \(port) is not between 1 and 65535"
    case .path:
      "upstream with a path: expected nothing after the host and port, or socks5:///path for a socket"
    case .pathTooLong:
      "upstream socket's path longer than \(SocketPath.maximumBytes) bytes: no Unix socket has such a one"
    case .securityNotSupported(let scheme):
      "upstream scheme \(scheme) with ?gssapi: only a SOCKS5 server knows users by it"
    case .malformedService:
      "upstream's GSSAPI service: expected ?gssapi=SERVICE or ?gssapi=SERVICE@HOST"
    case .serviceWithoutHost:
      "upstream socket with ?gssapi: expected the server's host too, as in ?gssapi=rcmd@HOST"
    case .malformedProtection:
      "upstream's GSSAPI protection: expected confidentiality, selective, integrity or none, each at most once, the best first, with commas between them"
    case .queryFieldNotSupported:
      "upstream with more than GSSAPI's settings: expected ?gssapi[=SERVICE][&protection=LEVEL,LEVEL]"
    case .zeroByteInPath: "upstream socket's path contains a zero byte (%00)"
    }
  }
}

// MARK: Host and port

private func endpoint(
  _ text: ArraySlice<UInt8>, defaultPort: UInt16
) throws(UpstreamURLError) -> Endpoint {
  guard text.first == UInt8(ascii: "[") else {
    let colon = text.firstIndex(of: UInt8(ascii: ":")) ?? text.endIndex
    let portText = text[colon...]
    guard !portText.dropFirst().contains(UInt8(ascii: ":")) else { throw .bareIPv6Address }
    let host = String(decoding: text[..<colon], as: UTF8.self)
    guard !host.isEmpty else { throw .emptyHost }
    let port = try port(portText, default: defaultPort)
    if let v4 = IPv4Address(host) { return .address(SocketAddress(.v4(v4), port)) }
    return .name(try hostName(host), port: port)
  }
  guard let bracket = text.firstIndex(of: UInt8(ascii: "]")),
    let v6 = IPv6Address(String(decoding: text[..<bracket].dropFirst(), as: UTF8.self))
  else { throw .malformedIPv6Address }
  let port = try port(text[(bracket + 1)...], default: defaultPort)
  return .address(SocketAddress(.v6(v6), port))
}

/// A name that a resolver cannot take for an address: its last label is no number, decimal or
/// hexadecimal (the URL Standard, "ends in a number").
private func hostName(_ text: String) throws(UpstreamURLError) -> HostName {
  guard let name = HostName(text),
    text.utf8.allSatisfy({ isLetterOrDigit($0) || "-._".utf8.contains($0) || $0 >= 0x80 }),
    let lastLabel = text.lowercased().utf8.split(separator: UInt8(ascii: ".")).last
  else { throw .malformedHost }
  let isHexadecimal =
    lastLabel.starts(with: "0x".utf8) && lastLabel.dropFirst(2).allSatisfy { hexDigit($0) != nil }
  guard !isHexadecimal, !lastLabel.allSatisfy(isDigit) else { throw .malformedIPv4Address }
  return name
}

/// The port in `:port`, the default one for an empty text.
private func port(
  _ text: ArraySlice<UInt8>, default defaultPort: UInt16
) throws(UpstreamURLError) -> UInt16 {
  guard let first = text.first else { return defaultPort }
  let digits = text.dropFirst()
  guard first == UInt8(ascii: ":"), !digits.isEmpty, digits.allSatisfy(isDigit) else {
    throw .portNotANumber
  }
  let number = String(decoding: digits, as: UTF8.self)
  guard let port = UInt16(number), port != 0 else { throw .portOutOfRange(number) }
  return port
}

// MARK: Bytes

func percentDecoded(_ text: ArraySlice<UInt8>) throws(UpstreamURLError) -> [UInt8] {
  var decoded: [UInt8] = []
  var rest = text
  while let byte = rest.popFirst() {
    guard byte == UInt8(ascii: "%") else {
      decoded.append(byte)
      continue
    }
    guard let high = rest.popFirst().flatMap(hexDigit), let low = rest.popFirst().flatMap(hexDigit)
    else { throw .malformedEscape }
    decoded.append(high << 4 | low)
  }
  return decoded
}

/// The unreserved characters of RFC 3986, section 2.3, and `others` as they are, all other bytes as
/// `%XX`.
func percentEncoded(_ bytes: [UInt8], except others: String = "") -> String {
  var text = ""
  for byte in bytes {
    if isLetterOrDigit(byte) || "-._~".utf8.contains(byte) || others.utf8.contains(byte) {
      text.unicodeScalars.append(Unicode.Scalar(byte))
    } else {
      text += (byte < 0x10 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
    }
  }
  return text
}

private func isDigit(_ byte: UInt8) -> Bool {
  (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
}

private func isLetterOrDigit(_ byte: UInt8) -> Bool {
  isDigit(byte) || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
}

private func hexDigit(_ byte: UInt8) -> UInt8? {
  switch byte {
  case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
  case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
  case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
  default: nil
  }
}
