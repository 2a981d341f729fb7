internal import Addressing
internal import DataPlane
internal import LinuxIO
internal import Logging
internal import SOCKS
internal import Synchronization

/// Whether an upstream takes the whole handshake in one write, and whether what comes before its reply arrives.
/// Flows go step by step until the one is proved, and again after one has failed in a way that speaks against
/// it; they say nothing early until the other is.
final class HandshakeFinding: Sendable {
  /// For a connection, and again to take the handshake or hang on it.
  private static let patience = Timeout.seconds(10)

  private let upstream: Upstream
  private let name: String
  /// Who is asked for early data; nil: that is not wanted.
  private let resolver: Endpoint?
  private let mark: UInt32?
  private let log: Logger
  private let hasTold = Atomic(false)
  private let toldEarlyData = Mutex<EarlyDataInquiry.Verdict?>(nil)

  init(
    _ upstream: Upstream, _ name: String, resolver: Endpoint?, mark: UInt32?, log: Logger
  ) {
    self.upstream = upstream
    self.name = name
    self.resolver = resolver
    self.mark = mark
    self.log = log
  }

  /// Finds it out, for a `RenewedQuestion`; what could not be asked is asked again.
  func find() -> Bool {
    let outcome = UpstreamProbe.run(
      upstream, mode: .pipelined, mark: mark, timeout: Self.patience)
    let (isProved, isDoubtful) =
      switch outcome {
      case .replied: (true, false)
      case .failed: (false, false)
      case .cannotConnect, .stuck: (false, true)
      }
    let isNews =
      isProved != upstream.isPipelined || !hasTold.exchange(true, ordering: .relaxed)
    // What is known of early data need not hold for the other kind of handshake.
    if isProved != upstream.isPipelined { upstream.takesEarlyData = false }
    upstream.isPipelined = isProved
    if isNews { log.tellPipelining(isProved, of: name) }
    if !isDoubtful, let resolver { findEarlyData(resolver, isPipelined: isProved) }
    return isDoubtful
  }

  // MARK: Early data

  private func findEarlyData(_ resolver: Endpoint, isPipelined: Bool) {
    let deadline = Instant.now() + Self.patience
    let inquiry = EarlyDataInquiry(
      upstream, isPipelined: isPipelined, resolver: resolver, mark: mark, until: deadline)
    let verdict = inquiry.verdict(until: deadline)
    upstream.takesEarlyData = verdict == .arrives
    let isNews = toldEarlyData.withLock { told in
      defer { told = verdict }
      return told != verdict
    }
    if isNews { tell(verdict) }
  }

  private func tell(_ verdict: EarlyDataInquiry.Verdict) {
    let (what, policy) =
      switch verdict {
      case .arrives: ("passes on what comes before its reply: what programs say goes along", "on")
      case .isLost: ("loses what comes before its reply: nothing is said before that", "off")
      case .unknown:
        ("is not known to pass on what comes before its reply: nothing is said before that", "off")
      }
    log.info("\(name) \(what)", metadata: ["event": "early_data", "policy": .string(policy)])
  }
}

extension Logger {
  /// - Parameter isProved: that the upstream takes a handshake in one write.
  func tellPipelining(_ isProved: Bool, of upstream: String) {
    debug(
      isProved
        ? "\(upstream) takes the handshake in one write, one round trip saved per connection"
        : "\(upstream) is not known to take the handshake in one write, going step by step",
      metadata: ["event": "pipelining", "proved": .stringConvertible(isProved)])
  }
}
