internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import Logging
internal import SOCKS

/// What is found out of each upstream while it is used, and found out again.
struct UpstreamQuestions {
  private let group: UpstreamGroup
  /// By the members of the group.
  private var members: [[RenewedQuestion]]

  /// - Parameters:
  ///   - group: of the data plane.
  ///   - configuration: says what of it is wanted.
  init(_ group: UpstreamGroup, _ configuration: Configuration, mark: UInt32?, log: Logger) {
    let resolver = Endpoint.address(ProbeTargets.resolver(configuration.dnsServer))
    // The embedded server is known.
    let wantsHalfClose =
      configuration.halfClose == .auto && !configuration.upstream.first.isThisProcess
    self.group = group
    members = zip(group.members, configuration.upstreams.members).map { upstream, chain in
      var questions: [RenewedQuestion] = []
      if upstream.dialect.canPipeline {
        let wantsEarlyData = configuration.earlyData == .auto && !chain.isChain
        let finding = HandshakeFinding(
          upstream, "\(chain)", resolver: wantsEarlyData ? resolver : nil, mark: mark, log: log)
        questions.append(RenewedQuestion { finding.find() })
      }
      if wantsHalfClose {
        let finding = HalfCloseFinding(
          upstream, "\(chain)", resolver: resolver, mark: mark, log: log)
        questions.append(RenewedQuestion { finding.find() })
      }
      return questions
    }
  }

  /// One more of a member.
  mutating func add(_ question: RenewedQuestion, of member: Int) {
    members[member].append(question)
  }

  /// Asks everything.
  func ask() { for question in members.joined() { question.ask() } }

  /// A member is somewhere else, or is back, or a flow has shown that it is not as it was.
  func handleReturn(of member: Int) {
    group.members[member].takesEarlyData = false
    for question in members[member] { question.handleReturn() }
  }

  /// It may have failed in a way in which a server fails that goes away and comes back as another.
  func handleFailure(_ failure: Failure, of member: Int) {
    if failure.concernsUpstream { handleReturn(of: member) }
  }

  /// Asks again what it is time for.
  /// - Parameter isOut: whether a member is not to be asked.
  func handleTime(now: Instant, isOut: (Int) -> Bool) {
    for member in members.indices where !isOut(member) {
      for question in members[member] { question.handleTime(now: now) }
    }
  }
}
