internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import Logging
internal import Synchronization

/// Whether the upstream drops the rest of an answer when it hears that a client has stopped sending: asks it,
/// on threads of its own, at the start and when the server behind the address may be another one. The data
/// plane is told, and who reads the log when it changes. Until something is known, ends are passed on.
final class HalfCloseMonitor: Sendable {
  /// How long the upstream and a resolver behind it have to answer.
  private static let patience = Timeout.seconds(10)
  /// Between two questions.
  private static let interval = Timeout.seconds(10)

  private struct State {
    var isAsking = false
    /// The upstream may have changed since it was last asked.
    var isDoubtful = false
    var nextQuestion = Instant(milliseconds: 0)
    var told: HalfCloseEvidence.Verdict?
  }

  private let upstream: Upstream
  private let name: String
  private let resolver: Endpoint
  private let mark: UInt32?
  private let log: Logger
  private let state = Mutex(State())

  /// One for each upstream; none where the user has decided it, nor for the embedded server.
  static func monitors(
    of group: UpstreamGroup?, _ configuration: Configuration, mark: UInt32?, log: Logger
  ) -> [HalfCloseMonitor] {
    guard let group, configuration.halfClose == .auto else { return [] }
    let resolver = Endpoint.address(ProbeTargets.resolver(configuration.dnsServer))
    return zip(group.members, configuration.upstreams.members).map { upstream, url in
      HalfCloseMonitor(upstream, "\(url)", resolver, mark: mark, log: log)
    }
  }

  private init(
    _ upstream: Upstream, _ name: String, _ resolver: Endpoint, mark: UInt32?, log: Logger
  ) {
    self.upstream = upstream
    self.name = name
    self.resolver = resolver
    self.mark = mark
    self.log = log
  }

  func ask() {
    let isAsked = state.withLock { state in
      guard !state.isAsking else { return false }
      state.isAsking = true
      state.isDoubtful = false
      state.nextQuestion = .now() + Self.interval
      return true
    }
    guard isAsked else { return }
    let question: @Sendable () -> Void = { [self] in
      let deadline = Instant.now() + Self.patience
      let inquiry = HalfCloseInquiry(upstream, resolver: resolver, mark: mark, until: deadline)
      take(inquiry.evidence(until: deadline).verdict)
    }
    do {
      try Thread(name: "sluice-probe", question).detach()
    } catch {
      // The question waits for the next time.
      state.withLock { ($0.isAsking, $0.isDoubtful) = (false, true) }
    }
  }

  /// The upstream is somewhere else.
  func handleReturn() { state.withLock { $0.isDoubtful = true } }

  /// It has failed in a way in which a server fails that goes away and comes back as another.
  func handleFailure(_ failure: Failure) {
    if failure.concernsUpstream { handleReturn() }
  }

  /// Asks again if it is time to.
  func handleTime(now: Instant) {
    if state.withLock({ $0.isDoubtful && $0.nextQuestion <= now }) { ask() }
  }

  /// What is not known leaves everything as it is. What was known before is asked for again.
  private func take(_ verdict: HalfCloseEvidence.Verdict) {
    if verdict != .unknown { upstream.dropsAnswers = verdict == .drops }
    let isNews = state.withLock { state in
      state.isAsking = false
      if verdict == .unknown, let told = state.told {
        if told != .unknown { state.isDoubtful = true }
        return false
      }
      defer { state.told = verdict }
      return state.told != verdict
    }
    if isNews { tell(verdict) }
  }

  private func tell(_ verdict: HalfCloseEvidence.Verdict) {
    switch verdict {
    case .drops:
      log.notice(
        "\(name) drops the rest of an answer when a program stops sending: it is not told of that",
        metadata: ["event": "half_close", "policy": "hold"])
    case .passes:
      log.info(
        "\(name) passes on that a program stops sending", metadata: Self.propagates)
    case .unknown:
      log.info(
        """
        nothing tells whether \(name) passes on that a program stops sending, taking it that it does \
        (--half-close hold says otherwise)
        """, metadata: Self.propagates)
    }
  }

  private static let propagates: Logger.Metadata = ["event": "half_close", "policy": "propagate"]
}
