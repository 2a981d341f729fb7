internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import SOCKS

/// From the upstream's URL to an upstream that has answered.
enum UpstreamSetup {
  /// All addresses of the upstream's host, for the rules to exempt. The embedded server needs none:
  /// it listens on loopback, which is never captured.
  static func addresses(_ url: UpstreamURL) throws(CommandFailure) -> [SocketAddress] {
    switch url {
    case .embedded: return []
    case .socks5(.address(let address), _): return [address]
    case .socks5(.name(let name, let port), _):
      let addresses = NameResolution.addresses(of: name)
      guard !addresses.isEmpty else {
        throw CommandFailure(
          "cannot resolve \(name): check the name, or give the upstream's address instead",
          .unavailable)
      }
      return addresses.map { SocketAddress($0, port) }
    }
  }

  /// What came of asking the upstream at one of its addresses.
  struct Attempt {
    let upstream: Upstream
    let outcome: UpstreamProbe.Outcome

    /// Whether a SOCKS5 server answered and took our credentials.
    var isLetIn: Bool {
      switch outcome {
      case .replied, .failed(.closed(.reply), _): true
      case .cannotConnect, .failed: false
      }
    }
  }

  /// Asks at one address after the other until one lets us in; nil if there is none to ask.
  static func attempt(
    _ addresses: [SocketAddress], _ url: UpstreamURL, mark: UInt32?, timeout: Timeout
  ) throws(CommandFailure) -> Attempt? {
    let credentials = try credentials(of: url)
    var last: Attempt?
    for address in addresses {
      let upstream = Upstream(address: address, credentials: credentials)
      let attempt = Attempt(
        upstream: upstream,
        outcome: UpstreamProbe.run(upstream, mode: .stepwise, mark: mark, timeout: timeout))
      if attempt.isLetIn { return attempt }
      last = attempt
    }
    return last
  }

  /// The first of the addresses where a SOCKS5 server answers and takes our credentials.
  static func reach(
    _ addresses: [SocketAddress], _ url: UpstreamURL, mark: UInt32?, timeout: Timeout
  ) throws(CommandFailure) -> Upstream {
    guard let attempt = try attempt(addresses, url, mark: mark, timeout: timeout) else {
      throw CommandFailure("\(url) has no address", .unavailable)
    }
    switch attempt.outcome {
    case .replied, .failed(.closed(.reply), _):
      return attempt.upstream
    case .cannotConnect(let error):
      throw CommandFailure(
        "cannot reach \(url) at \(attempt.upstream.address): \(error); is the SOCKS5 server running?",
        .unavailable)
    case .failed(let error, let isTimeout):
      throw CommandFailure(
        "\(url) at \(attempt.upstream.address) "
          + (isTimeout
            ? "accepts connections but does not answer; is it a SOCKS5 server?"
            : "does not let us in: \(error)"),
        .unavailable)
    }
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

  private static func credentials(of url: UpstreamURL) throws(CommandFailure) -> Credentials? {
    guard case .socks5(_, let login?) = url else { return nil }
    do {
      return try Credentials(username: login.username, password: login.password)
    } catch {
      throw CommandFailure("\(url): \(error)", .usage)
    }
  }
}
