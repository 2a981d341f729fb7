internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import Logging
internal import Synchronization

/// Whether an upstream drops the rest of an answer when it hears that a client has stopped sending. The data
/// plane is told, and who reads the log when it changes. Until something is known, ends are passed on.
final class HalfCloseFinding: Sendable {
  /// How long the upstream and a resolver behind it have to answer.
  private static let patience = Timeout.seconds(10)

  private let upstream: Upstream
  private let name: String
  private let resolver: Endpoint
  private let mark: UInt32?
  private let log: Logger
  private let told = Mutex<HalfCloseEvidence.Verdict?>(nil)

  init(_ upstream: Upstream, _ name: String, resolver: Endpoint, mark: UInt32?, log: Logger) {
    self.upstream = upstream
    self.name = name
    self.resolver = resolver
    self.mark = mark
    self.log = log
  }

  /// Finds it out, for a `RenewedQuestion`. What is not known leaves everything as it is. What was known
  /// before is asked for again.
  func find() -> Bool {
    let deadline = Instant.now() + Self.patience
    let inquiry = HalfCloseInquiry(upstream, resolver: resolver, mark: mark, until: deadline)
    let verdict = inquiry.evidence(until: deadline).verdict
    if verdict != .unknown { upstream.dropsAnswers = verdict == .drops }
    let (isNews, isDoubtful) = told.withLock { told in
      if verdict == .unknown, let told { return (false, told != .unknown) }
      defer { told = verdict }
      return (told != verdict, false)
    }
    if isNews { tell(verdict) }
    return isDoubtful
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
