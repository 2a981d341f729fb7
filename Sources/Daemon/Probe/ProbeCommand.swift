internal import Addressing
package import Configuration
internal import DataPlane
internal import Glibc
internal import LinuxIO
internal import SOCKS

/// `sluice probe`: what an upstream is able to do, tried on connections of our own. Needs no privilege, and
/// changes nothing.
package struct ProbeCommand {
  /// For each of a connection and a handshake, to be let in; and for both together, and a name's look-up.
  private static let patience = Timeout(milliseconds: 2500)
  private static let entrancePatience = Timeout(milliseconds: 4500)
  /// For all that is asked side by side.
  private static let askingPatience = Timeout(milliseconds: 4000)
  /// For a resolver that is asked without the upstream.
  private static let directPatience = Timeout(milliseconds: 1000)

  private let chain: UpstreamChain
  private let targets: ProbeTargets
  private let isJSON: Bool

  /// - Parameter isJSON: prints an object instead of a table.
  package init(_ configuration: Configuration, _ targets: ProbeTargets, isJSON: Bool) {
    chain = configuration.upstream
    self.targets = targets
    self.isJSON = isJSON
  }

  /// Blocks for about ten seconds at most.
  package func run() throws(CommandFailure) {
    guard !chain.first.isThisProcess else {
      throw CommandFailure(
        "\(chain): there is no server to ask: give the upstream's URL, such as socks5://host:1080",
        .usage)
    }
    let upstream = try enter()
    let report = examine(upstream)
    var line = Array((isJSON ? report.json + "\n" : report.text).utf8)
    _ = write(STDOUT_FILENO, &line, line.count)
  }

  /// The upstream at the first of its addresses that lets us in.
  private func enter() throws(CommandFailure) -> Upstream {
    let chain = chain
    let inquiry = Inquiry { () -> Result<Upstream, CommandFailure> in
      Result { () throws(CommandFailure) in
        try UpstreamSetup.reach(
          try UpstreamSetup.places(chain.first), chain, mark: nil, timeout: Self.patience)
      }
    }
    guard let entrance = inquiry.answer(until: .now() + Self.entrancePatience) else {
      throw CommandFailure(
        "\(chain) does not let us in within \(Self.entrancePatience.milliseconds) ms", .unavailable)
    }
    return try entrance.get()
  }

  // MARK: Questions

  private func examine(_ upstream: Upstream) -> ProbeReport {
    var report = ProbeReport(
      upstream: chain.isChain ? "\(chain)" : upstream.place.name(in: chain.first))
    // By itself, since the others would be in its way.
    report.waits = waits(upstream)
    let deadline = Instant.now() + Self.askingPatience
    let (targets, resolver) = (targets, Endpoint.address(targets.resolver))
    let connections = [
      ("connect_ipv4", targets.ipv4), ("connect_ipv6", targets.ipv6),
      ("connect_name", targets.named),
    ].map { name, target in
      let isResolver = targets.isResolver(target)
      let inquiry = Inquiry {
        Exchange(connecting: upstream, to: target, isResolver: isResolver, until: deadline)
      }
      return (name: name, target: target, inquiry: inquiry)
    }
    let methods = MethodInquiry.methods.map { name, method in
      (name: name, inquiry: Inquiry { MethodInquiry.run(method, upstream, until: deadline) })
    }
    let datagrams = Inquiry {
      DatagramInquiry.run(upstream, resolver: targets.resolver, until: deadline)
    }
    let bind = Inquiry { Self.bind(upstream, for: resolver, until: deadline) }
    let pipelining = [UpstreamProbe.target, resolver].map { target in
      Inquiry { Self.pipelining(upstream, to: target, until: deadline) }
    }
    let halfClose = HalfCloseInquiry(upstream, resolver: resolver, mark: nil, until: deadline)
    let early = Inquiry {
      Exchange(.early(.withRequest), upstream, resolver: resolver, mark: nil, until: deadline)
    }
    let earlyWitness = Inquiry {
      Witness.ask(.early(.withRequest), upstream, mark: nil, until: deadline)
    }

    for (name, target, inquiry) in connections {
      let exchange = inquiry.answer(until: deadline)
      report.abilities.append((name, Ability(connecting: exchange, to: target)))
    }
    let datagramFinding = datagrams.answer(until: deadline)
    report.mapping = datagramFinding?.mapping ?? .unknown
    report.abilities.append(("udp", datagramFinding?.relay ?? .unanswered))
    report.abilities.append(("bind", bind.answer(until: deadline) ?? .unanswered))
    var evidence = halfClose.evidence(until: deadline)
    let plain = evidence.plain.first(where: \.isAnswered) ?? evidence.plain.first
    let refusals = pipelining.map { $0.answer(until: deadline) ?? .silence }
    report.abilities.append(("pipelining", Ability(pipelining: refusals, plain: plain)))
    report.abilities.append(
      (
        "early_data",
        upstream.takesEarlyData
          ? Ability(
            early: early.answer(until: deadline), plain: plain,
            testimony: earlyWitness.answer(until: deadline) ?? nil)
          : Ability(.unknown, "not tried by GSSAPI")
      ))
    if evidence.wantsDirect { evidence.direct = direct() }
    report.abilities.append(("half_close", Ability(evidence)))
    report.methods = methods.compactMap { name, inquiry in
      let ability = inquiry.answer(until: deadline) ?? .unanswered
      return ability.state == .notOffered ? nil : (name, ability)
    }
    return report
  }

  /// Of a handshake, step by step.
  private func waits(_ upstream: Upstream) -> ProbeConnection.Waits {
    let inquiry = Inquiry { () -> ProbeConnection.Waits in
      let connection = try? ProbeConnection(
        to: upstream, mark: nil, deadline: .now() + Self.directPatience)
      _ = connection?.request(to: UpstreamProbe.target, mode: .stepwise)
      return connection?.waits ?? ProbeConnection.Waits()
    }
    return inquiry.answer(until: .now() + Self.directPatience) ?? ProbeConnection.Waits()
  }

  private static func bind(
    _ upstream: Upstream, for peer: Endpoint, until deadline: Instant
  ) -> Ability {
    let connection: ProbeConnection
    do {
      connection = try ProbeConnection(to: upstream, mark: nil, deadline: deadline)
    } catch {
      return Ability(.unknown, "\(error)")
    }
    let outcome = connection.request(.bind, to: peer, mode: .stepwise)
    if case .socks4 = upstream.lastDialect, connection.failure == .datagramsNotSupported {
      return Ability(.unknown, "not tried with SOCKS4")
    }
    if let refusal = Refusal(outcome, connection.failure) { return Ability(refusal: refusal) }
    guard connection.bound.port > 0 else { return Ability(.noAnswer, "granted without a port") }
    return Ability(.works)
  }

  /// Why a request in one write with all before it is not granted; nil if it is.
  private static func pipelining(
    _ upstream: Upstream, to target: Endpoint, until deadline: Instant
  ) -> Refusal? {
    guard upstream.dialect.canPipeline else { return .notOffered }
    let connection: ProbeConnection
    do {
      connection = try ProbeConnection(to: upstream, mark: nil, deadline: deadline)
    } catch {
      return .trouble("\(error)")
    }
    return Refusal(connection.request(to: target, mode: .pipelined), connection.failure)
  }

  /// Whether the resolver answers one who has stopped sending; nil if it is out of reach without the
  /// upstream.
  private func direct() -> Exchange? {
    let place = Upstream(at: .address(targets.resolver), credentials: nil)
    let deadline = Instant.now() + Self.directPatience
    guard let connection = try? ProbeConnection(to: place, mark: nil, deadline: deadline) else {
      return nil
    }
    return Exchange(.ending, on: connection)
  }
}

extension Upstream {
  /// Whether bytes can go out with the request, before there is a reply.
  fileprivate var takesEarlyData: Bool {
    switch lastDialect {
    case .socks5, .http, .socks4: true
    case .gssapi: false
    }
  }
}
