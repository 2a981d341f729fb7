internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import SOCKS

/// From the upstream's URL to an upstream that has answered.
enum UpstreamSetup {
  /// Where the upstream listens: all addresses of its host, or its Unix socket. Nowhere for the embedded
  /// server, which starts with the data plane on loopback, which is never captured, and for `direct`.
  static func places(_ url: UpstreamURL) throws(CommandFailure) -> [Upstream.Place] {
    switch url.server {
    case nil: return []
    case .socket(let path): return [.socket(path)]
    case .host(.address(let address)): return [.address(address)]
    case .host(.name(let name, let port)):
      let addresses = AddressRace.interlaced(NameResolution.addresses(of: name))
      guard !addresses.isEmpty else {
        let obstacle = Upstream.Place.Obstacle.unresolved(name)
        throw CommandFailure("\(obstacle.problem): \(obstacle.advice)", .unavailable)
      }
      return addresses.map { .address(SocketAddress($0, port)) }
    }
  }

  /// What came of asking the upstream at one of its addresses.
  struct Attempt {
    let upstream: Upstream
    let outcome: UpstreamProbe.Outcome

    /// Whether a server of the right kind answered and took our credentials.
    var isLetIn: Bool {
      switch outcome {
      case .replied, .failed(.closed(.reply), _): true
      case .cannotConnect, .failed, .stuck: false
      }
    }
  }

  /// Asks at all places, in this order, until one lets us in; nil if there is none to ask.
  static func attempt(
    _ places: [Upstream.Place], _ chain: UpstreamChain, mark: UInt32?, timeout: Timeout
  ) throws(CommandFailure) -> Attempt? {
    let dialect = try dialect(of: chain.first)
    let further = try furtherHops(of: chain)
    return AddressRace(mark: mark, timeout: timeout).run(
      places.map { Upstream(at: $0, dialect, before: further) })
  }

  /// The first of the places where a server of the right kind answers and takes our credentials, and, in
  /// a chain, leads to others that do.
  static func reach(
    _ places: [Upstream.Place], _ chain: UpstreamChain, mark: UInt32?, timeout: Timeout
  ) throws(CommandFailure) -> Upstream {
    guard let attempt = try attempt(places, chain, mark: mark, timeout: timeout) else {
      throw CommandFailure("\(chain) has no address", .unavailable)
    }
    return try admit(attempt, chain)
  }

  /// The upstream that was asked, if it lets us in.
  static func admit(
    _ attempt: Attempt, _ chain: UpstreamChain
  ) throws(CommandFailure) -> Upstream {
    if let failure = obstacle(attempt.outcome, chain, at: attempt.upstream.place) { throw failure }
    return attempt.upstream
  }

  /// Why an upstream cannot be used that has been asked at one of its places; nil if it has let us in.
  static func obstacle(
    _ outcome: UpstreamProbe.Outcome, _ chain: UpstreamChain, at place: Upstream.Place
  ) -> CommandFailure? {
    let last = chain.name(ofHop: chain.hops.count - 1, at: place)
    switch outcome {
    case .replied, .failed(.closed(.reply), _):
      return nil
    case .cannotConnect(let error):
      guard let obstacle = place.obstacle(error, chain.first) else {
        return CommandFailure(
          "cannot reach \(chain.name(ofHop: 0, at: place)): \(error); is the "
            + "\(chain.first.serverName) running?", .unavailable)
      }
      return CommandFailure(
        "\(obstacle.problem): \(obstacle.advice)",
        obstacle.isForbidden ? .noPermission : .unavailable)
    case .stuck(let error, let isTimeout, let hop):
      let trouble = chain.trouble(error, isTimeout: isTimeout, hop: hop, at: place)
      return CommandFailure("\(trouble.problem); \(trouble.advice)", .unavailable)
    case .failed(let error, let isTimeout):
      return CommandFailure(
        "\(last) "
          + (isTimeout
            ? "accepts connections but does not answer; is it \(chain.last.serverNameWithArticle)?"
            : "does not let us in: \(error)"),
        .unavailable)
    }
  }

  /// What is behind the first hop. A name is left to the hop before, or looked up here if that one takes
  /// none.
  private static func furtherHops(
    of chain: UpstreamChain
  ) throws(CommandFailure) -> [Upstream.Hop] {
    var hops: [Upstream.Hop] = []
    for index in chain.hops.indices.dropFirst() {
      guard case .host(var endpoint) = chain.hops[index].server else {
        preconditionFailure("a chain has hosts behind its first hop")
      }
      if case .socks4 = chain.hops[index - 1], case .name(let name, let port) = endpoint {
        let address = NameResolution.addresses(of: name).first(where: \.isIPv4)
        guard let address else {
          throw CommandFailure(
            "\(chain.name(ofHop: index)): cannot resolve \(name) to an IPv4 address, as SOCKS4 before it "
              + "needs: check the name, or say socks4a there if the server takes names",
            .unavailable)
        }
        endpoint = .address(SocketAddress(address, port))
      }
      hops.append(Upstream.Hop(at: endpoint, try dialect(of: chain.hops[index])))
    }
    return hops
  }

  /// Credentials that nobody else knows, for the embedded server on loopback.
  static func randomCredentials() -> Credentials {
    func token() -> String {
      System.randomBytes(16).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }
        .joined()
    }
    do {
      return try Credentials(username: token(), password: token())
    } catch {
      preconditionFailure("32 hexadecimal digits are valid credentials")
    }
  }

  private static func dialect(of url: UpstreamURL) throws(CommandFailure) -> Dialect {
    do {
      return switch url {
      case .socks5(_, let login): .socks5(try credentials(login))
      case .gssapi(let server, let security, let login):
        .gssapi(
          SecurityOffer(
            service: try security.service(at: server),
            levels: security.levels.map(ProtectionLevel.init),
            credentials: try credentials(login)))
      case .http(_, let login): .http(try credentials(login))
      case .socks4(_, let user): .socks4(try userID(user), takesNames: false)
      case .socks4a(_, let user): .socks4(try userID(user), takesNames: true)
      case .embedded, .direct: .socks5(nil)
      }
    } catch {
      throw CommandFailure("\(url): \(error)", .usage)
    }
  }

  private static func credentials(
    _ login: UpstreamURL.Login?
  ) throws(CredentialsError) -> Credentials? {
    guard let login else { return nil }
    guard let password = login.password else { throw .emptyPassword }
    return try Credentials(
      username: FlowTemplate(login.username), password: FlowTemplate(password))
  }

  private static func userID(_ user: UpstreamURL.User?) throws(CredentialsError) -> UserID? {
    guard let user else { return nil }
    return try UserID(FlowTemplate(user.name))
  }
}

extension FlowTemplate {
  fileprivate init(_ template: IdentityTemplate) {
    self.init(
      template.segments.map { segment in
        switch segment {
        case .literal(let bytes): .literal(bytes)
        case .placeholder(let placeholder): .attribute(FlowAttribute(placeholder))
        }
      })
  }
}

extension FlowAttribute {
  fileprivate init(_ placeholder: IdentityTemplate.Placeholder) {
    self =
      switch placeholder {
      case .uid: .user
      case .gid: .group
      case .cgroup: .controlGroup
      case .clientAddress: .client
      case .host: .host
      case .port: .port
      }
  }
}

extension UpstreamURL {
  /// Nil where its server is given in another way.
  var hostName: HostName? {
    switch server {
    case .host(.name(let name, port: _)): name
    case .host(.address), .socket, nil: nil
    }
  }

  /// `serverName` as in a question.
  var serverNameWithArticle: String {
    switch self {
    case .socks5, .gssapi, .socks4, .socks4a, .embedded, .direct: "a \(serverName)"
    case .http: "an \(serverName)"
    }
  }
}

extension ProtectionLevel {
  fileprivate init(_ protection: UpstreamURL.Security.Protection) {
    self =
      switch protection {
      case .none: .none
      case .integrity: .integrity
      case .confidentiality: .confidentiality
      case .selective: .selective
      }
  }
}

extension Upstream.Place {
  /// What the rules have to exempt; nil for a Unix socket, to which no packet goes, and for nowhere.
  var exemption: IPAddress? {
    switch self {
    case .address(let address): address.address
    case .socket, .nowhere: nil
    }
  }

  /// For people: the upstream, with the one of its addresses that is meant.
  func name(in url: UpstreamURL) -> String {
    switch self {
    case .address(let address): "\(url) at \(address)"
    case .socket, .nowhere: "\(url)"
    }
  }

  /// What stands between us and a server.
  struct Obstacle {
    let problem: String
    let advice: String
    var isForbidden = false

    static func unresolved(_ name: HostName) -> Obstacle {
      Obstacle(
        problem: "cannot resolve \(name)",
        advice: "check the name, or give the upstream's address instead")
    }
  }

  /// What an error in connecting says of a Unix socket, or of a name that leads nowhere; nil if nothing that is
  /// its own.
  func obstacle(_ error: Errno, _ url: UpstreamURL) -> Obstacle? {
    if self == .nowhere, let name = url.hostName { return .unresolved(name) }
    guard case .socket(let path) = self else { return nil }
    switch error {
    case .noEntry, .connectionRefused:
      return Obstacle(
        problem: "no \(url.serverName) listens on \(path)", advice: "start it, or correct the path")
    case .accessDenied:
      return Obstacle(
        problem: "may not connect to \(path)",
        advice: "run it as a user who may enter its folder and write to it, or in a group that may",
        isForbidden: true)
    default: return nil
    }
  }
}
