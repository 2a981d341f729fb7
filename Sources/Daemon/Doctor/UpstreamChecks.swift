internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import NFTables
internal import RedirectPolicy
internal import SOCKS

/// Whether the upstream is there, lets us in, and what it is able to do.
struct UpstreamChecks {
  /// For each of a connection and a handshake.
  private static let patience = Timeout.seconds(5)

  private let chain: UpstreamChain
  private let isOneOfSeveral: Bool
  private let mark: UInt32?

  /// - Parameter isOneOfSeveral: so that findings name it.
  init(
    _ chain: UpstreamChain, isOneOfSeveral: Bool, _ policy: RedirectPolicy, _ privileges: Privileges
  ) {
    self.chain = chain
    self.isOneOfSeveral = isOneOfSeveral
    mark = privileges.canChangeRules ? policy.numbers.marks.own.value : nil
  }

  /// How its abilities are told.
  private var subject: String { isOneOfSeveral ? "\(chain)" : "the upstream" }

  func findings() -> [Finding] {
    if chain.first.isThisProcess {
      return [
        .ok(
          .upstream,
          chain.first == .direct
            ? "none: connections go directly to their destinations"
            : "the embedded server, which connects directly")
      ]
    }
    do throws(CommandFailure) {
      let attempt = try UpstreamSetup.attempt(
        try UpstreamSetup.places(chain.first), chain, mark: mark, timeout: Self.patience)
      guard let attempt, attempt.isLetIn else { return [refusal(attempt)] }
      let name = chain.isChain ? "\(chain)" : attempt.upstream.place.name(in: chain.first)
      return [
        .ok(.upstream, "\(name) lets us in"), ipv6(attempt.upstream), udp(attempt.upstream),
      ]
    } catch {
      return [
        .failure(
          .upstream, error.message, advice: "give the upstream's address instead of its name")
      ]
    }
  }

  private func refusal(_ attempt: UpstreamSetup.Attempt?) -> Finding {
    guard let attempt else {
      return .failure(.upstream, "\(chain) has no address", advice: "check the name")
    }
    let place = chain.name(ofHop: 0, at: attempt.upstream.place)
    let last = chain.name(ofHop: chain.hops.count - 1, at: attempt.upstream.place)
    switch attempt.outcome {
    case .replied:
      return .ok(.upstream, "\(last) lets us in")
    case .cannotConnect(let error):
      if let obstacle = attempt.upstream.place.obstacle(error, chain.first) {
        return .failure(.upstream, obstacle.problem, advice: obstacle.advice)
      }
      return .failure(
        .upstream, "cannot reach \(place): \(error)",
        advice: "start the \(chain.first.serverName), or check address, port and firewall")
    case .stuck(let failure, let isTimeout, let hop):
      let trouble = chain.trouble(
        failure, isTimeout: isTimeout, hop: hop, at: attempt.upstream.place)
      return .failure(.upstream, trouble.problem, advice: trouble.advice)
    case .failed(_, isTimeout: true):
      return .failure(
        .upstream, "\(last) accepts connections but does not answer",
        advice: "check that it is \(chain.last.serverNameWithArticle), and whether it is overloaded"
      )
    case .failed(let failure, isTimeout: false):
      return .failure(
        .upstream, "\(last) does not let us in: \(failure)", advice: failure.advice(chain.last))
    }
  }

  // MARK: Abilities

  private func ipv6(_ upstream: Upstream) -> Finding {
    let outcome = ask(upstream, .connect, UpstreamProbe.targetV6)
    guard case .replied(let code) = outcome, code != .addressTypeNotSupported else {
      return .warning(
        .upstreamIPv6, "\(subject) takes no IPv6 addresses: \(outcome.text)",
        advice: "reject IPv6, so that programs fall back on IPv4: --ipv6 reject")
    }
    return .ok(.upstreamIPv6, "\(subject) takes IPv6 addresses")
  }

  private func udp(_ upstream: Upstream) -> Finding {
    guard upstream.hasDatagrams else {
      let reason = chain.obstacleToDatagrams ?? "\(HandshakeFailure.datagramsNotSupported)"
      return .warning(
        .upstreamUDP, "no UDP\(isOneOfSeveral ? " through \(chain)" : ""): \(reason)",
        advice: "take a SOCKS5 server, or do without: DNS goes over TCP, and other UDP is rejected")
    }
    for hop in chain.hops.indices {
      let outcome = UpstreamProbe.askForDatagrams(
        upstream, hop: hop, mark: mark, timeout: Self.patience)
      if case .replied(.succeeded) = outcome { continue }
      let server = chain.isChain ? "\(chain.name(ofHop: hop))," : subject
      return .warning(
        .upstreamUDP, "no UDP: \(server) answers UDP ASSOCIATE with \(outcome.text)",
        advice: "allow UDP ASSOCIATE in the server, or keep UDP away from it: --udp reject")
    }
    return .ok(
      .upstreamUDP,
      chain.isChain
        ? "every hop\(isOneOfSeveral ? " of \(chain)" : "") has UDP ASSOCIATE"
        : "\(subject) has UDP ASSOCIATE")
  }

  private func ask(
    _ upstream: Upstream, _ command: Command, _ destination: Endpoint
  ) -> UpstreamProbe.Outcome {
    UpstreamProbe.run(
      upstream, command, to: destination, mode: .stepwise, mark: mark, timeout: Self.patience)
  }
}

extension UpstreamProbe.Outcome {
  /// For people.
  fileprivate var text: String {
    switch self {
    case .replied(let code): "\(code)"
    case .cannotConnect(let error): "\(error)"
    case .failed(_, isTimeout: true), .stuck(_, isTimeout: true, _): "silence"
    case .failed(let failure, isTimeout: false), .stuck(let failure, isTimeout: false, _):
      "\(failure)"
    }
  }
}

extension HandshakeFailure {
  /// What helps against it.
  func advice(_ url: UpstreamURL) -> String {
    switch self {
    case .authenticationRejected: "correct user and password in the URL"
    case .noAcceptableMethod:
      "give user and password in the URL, or leave them out: the server wants it otherwise"
    case .refusedByHTTP(let status) where status.wantsCredentials:
      "correct user and password in the URL"
    case .protocolViolation:
      "check that address and port are those of \(url.serverNameWithArticle)"
    case .refusedByHTTP(let status) where status.refusesTunnels:
      "check that address and port are those of \(url.serverNameWithArticle)"
    case .refusedBySOCKS4(.noIdentity), .refusedBySOCKS4(.otherIdentity):
      "run an identd here that names the user of the URL, or have the server ask for none"
    case .credentialsNotSupported: "shorten user or password in the URL"
    case .securityFailed:
      "get a ticket with kinit, or name a keytab in KRB5_CLIENT_KTNAME, and see that klist shows it"
    case .securityAborted:
      "look into the server's log: its keytab has to have the key of the service that the URL names"
    case .protectionNotAcceptable: "add the level to &protection= in the URL"
    case .refused, .refusedByHTTP, .refusedBySOCKS4, .closed, .destinationNotSupported,
      .datagramsNotSupported, .bindNotSupported:
      "look into the server's log, and at whom it lets in"
    }
  }
}
