import Addressing
import NFTables
import RedirectPolicy
import TestSupport
import Testing

/// The rules do what the policy means, for policies and packets at random.
struct RandomExplanationTests {
  @Test(arguments: 0..<8)
  func rulesMeanWhatThePolicyMeans(seed: Int) {
    var generator = SplitMix(seed: UInt64(seed))
    var seen = Set<PolicyModel.Verdict>()
    for _ in 0..<200 {
      let policy = generator.policy()
      let model = PolicyModel(policy: policy)
      for _ in 0..<12 {
        let packet = generator.packet(for: policy)
        let isRunning = generator.chance(80)
        let explanation = policy.explain(packet, isRunning: isRunning)
        let expected = model.verdict(packet, isRunning: isRunning)
        seen.insert(expected)
        if !explanation.verdict.agrees(with: expected, policy.ports) {
          Issue.record(
            """
            seed \(seed): the rules say \(explanation.verdict), the policy means \(expected)
            \(packet), the daemon \(isRunning ? "runs" : "is gone")
            \(explanation.events.map { "\($0)" }.joined(separator: "\n"))
            \(policy)
            """)
          return
        }
      }
    }
    let everyVerdict: Set<PolicyModel.Verdict> = [
      .redirected, .tproxied, .direct, .rejected(.tcpReset), .rejected(.portUnreachable),
      .rejected(.administrativelyProhibited),
    ]
    #expect(seen == everyVerdict)
  }
}

extension Explanation.Verdict {
  fileprivate func agrees(
    with expected: PolicyModel.Verdict, _ ports: RedirectPolicy.Ports
  ) -> Bool {
    switch self {
    case .captured(.redirect(let listener)):
      expected == .redirected && listener.port == ports.redirect
    case .captured(.tproxy(let listener)):
      expected == .tproxied && listener.port == ports.tproxy && listener.address.isLoopback
    case .direct: expected == .direct
    case .rejected(let rejection): expected == .rejected(rejection)
    case .dropped: false
    }
  }
}
