internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import Logging
internal import SOCKS

/// What is found out of each upstream while it is used, and found out again.
struct UpstreamQuestions {
  private struct Member {
    let upstream: Upstream
    var questions: [RenewedQuestion] = []
  }

  private let mark: UInt32?
  private let log: Logger
  /// By slot.
  private var members: [Int: Member] = [:]

  init(mark: UInt32?, log: Logger) {
    self.mark = mark
    self.log = log
  }

  /// Has one more upstream to ask.
  /// - Parameters:
  ///   - slot: nobody's so far.
  ///   - configuration: says what of it is wanted.
  mutating func add(
    _ upstream: Upstream, _ chain: UpstreamChain, in slot: Int, _ configuration: Configuration
  ) {
    let resolver = Endpoint.address(ProbeTargets.resolver(configuration.dnsServer))
    var member = Member(upstream: upstream)
    if upstream.dialect.canPipeline {
      let wantsEarlyData = configuration.earlyData == .auto && !chain.isChain
      let finding = HandshakeFinding(
        upstream, "\(chain)", resolver: wantsEarlyData ? resolver : nil, mark: mark, log: log)
      member.questions.append(RenewedQuestion { finding.find() })
    }
    // The embedded server is known.
    if configuration.halfClose == .auto, !chain.first.isThisProcess {
      let finding = HalfCloseFinding(
        upstream, "\(chain)", resolver: resolver, mark: mark, log: log)
      member.questions.append(RenewedQuestion { finding.find() })
    }
    members[slot] = member
  }

  /// One more of a member.
  mutating func add(_ question: RenewedQuestion, of slot: Int) {
    members[slot]?.questions.append(question)
  }

  /// A member is not asked any more.
  mutating func remove(_ slot: Int) { members[slot] = nil }

  /// Asks everything of a member.
  func ask(_ slot: Int) {
    for question in members[slot]?.questions ?? [] { question.ask() }
  }

  /// A member is somewhere else, or is back, or a flow has shown that it is not as it was.
  func handleReturn(of slot: Int) {
    guard let member = members[slot] else { return }
    member.upstream.takesEarlyData = false
    for question in member.questions { question.handleReturn() }
  }

  /// It may have failed in a way in which a server fails that goes away and comes back as another.
  func handleFailure(_ failure: Failure, of slot: Int) {
    if failure.concernsUpstream { handleReturn(of: slot) }
  }

  /// Asks again what it is time for.
  /// - Parameter isOut: whether a member is not to be asked.
  func handleTime(now: Instant, isOut: (Int) -> Bool) {
    for (slot, member) in members where !isOut(slot) {
      for question in member.questions { question.handleTime(now: now) }
    }
  }
}
