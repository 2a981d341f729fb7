internal import DataPlane
internal import LinuxIO
internal import SOCKS

/// Which ways to prove who we are a SOCKS5 server takes: each is offered alone (RFC 1928, section 3).
enum MethodInquiry {
  /// With the names that are printed.
  static let methods: [(name: String, method: Method)] = [
    ("none", .noAuthentication), ("password", .usernamePassword), ("gssapi", .gssapi),
  ]

  private static let version: UInt8 = 5

  /// Blocks up to the deadline.
  static func run(
    _ method: Method, _ upstream: Upstream, until deadline: Instant
  ) -> Ability {
    guard upstream.dialect.hasMethods else { return Ability(.notOffered) }
    guard upstream.further.isEmpty else { return Ability(.unknown, "not tried through a chain") }
    let connection: ProbeConnection
    do {
      connection = try ProbeConnection(to: upstream, mark: nil, deadline: deadline)
    } catch {
      return Ability(.unknown, "\(error)")
    }
    guard connection.send([version, 1, method.rawValue]) else { return Ability(refusal: .closed) }
    var selection: [UInt8] = []
    while selection.count < 2 {
      switch connection.receive() {
      case .bytes(let bytes): selection += bytes
      case .end: return Ability(refusal: .closed)
      case .silence: return .unanswered
      }
    }
    return Ability(selection, offered: method)
  }
}

extension Ability {
  /// What a server answers to a greeting that offers one method.
  init(_ selection: [UInt8], offered method: Method) {
    switch Method(rawValue: selection[1]) {
    case method: self.init(.works)
    case .noAcceptable: self.init(.refused)
    case .noAuthentication: self.init(.refused, "takes none in its place")
    case let other: self.init(.refused, "selects \(other.rawValue), which was not offered")
    }
  }
}

extension Dialect {
  /// Whether there are methods to choose from.
  fileprivate var hasMethods: Bool {
    switch self {
    case .socks5, .gssapi: true
    case .http, .socks4: false
    }
  }
}
