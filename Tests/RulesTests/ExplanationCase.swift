import Addressing
import NFTables
import RedirectPolicy
import Testing

/// A packet, a policy, and what is expected of the two together.
struct ExplanationCase: CustomTestStringConvertible, Sendable {
  enum Outcome: Hashable {
    case tproxied
    case redirected
    case direct
    case rejected(Reject)
    case dropped
  }

  let testDescription: String
  var policy: RedirectPolicy
  var packet: Packet
  let outcome: Outcome
  /// The chain where it is decided, and a part of the rule's text, or of what keeps the chain's last
  /// rule from holding; nil where no chain sees the packet.
  let decision: (chain: String, text: String)?

  /// TCP of this host's user 1000 to 11.3.0.2:443, by wan0; all of this host is captured by `tproxy`.
  static func machine(
    _ name: String, _ outcome: Outcome, _ decision: (String, String)?,
    policy change: (inout RedirectPolicy) -> Void = { _ in },
    packet vary: (inout Packet) -> Void = { _ in }
  ) -> ExplanationCase {
    var policy = RedirectPolicy(
      machine: .init(.tproxy), upstreams: addresses("11.2.0.2", "2a0f::2"))
    change(&policy)
    var packet = Packet.opening("11.1.0.2", "11.3.0.2")
    packet.output = "wan0"
    packet.user = 1000
    packet.group = 1000
    packet.controlGroups = [10, 11]
    vary(&packet)
    return ExplanationCase(
      testDescription: name, policy: policy, packet: packet, outcome: outcome, decision: decision)
  }

  /// The same from 11.1.0.2, arriving by lan0; everything of lan0 is captured by `tproxy`.
  static func gateway(
    _ name: String, _ outcome: Outcome, _ decision: (String, String)?,
    policy change: (inout RedirectPolicy) -> Void = { _ in },
    packet vary: (inout Packet) -> Void = { _ in }
  ) -> ExplanationCase {
    var policy = RedirectPolicy(
      gateway: .init(.tproxy, interfaces: ["lan0"]), upstreams: addresses("11.2.0.2", "2a0f::2"))
    change(&policy)
    var packet = Packet.opening("11.1.0.2", "11.3.0.2")
    packet.input = .init("lan0")
    packet.output = "wan0"
    packet.hardwareAddress = HardwareAddress("02:00:00:00:00:01")
    vary(&packet)
    return ExplanationCase(
      testDescription: name, policy: policy, packet: packet, outcome: outcome, decision: decision)
  }

  func check(isRunning: Bool = true) {
    let explanation = policy.explain(packet, isRunning: isRunning)
    #expect(ExplanationCase.Outcome(explanation.verdict) == outcome)
    switch explanation.decision {
    case nil: #expect(decision == nil)
    case .matched(let step):
      #expect(step.chain == decision?.chain)
      #expect(step.rule.description.contains(decision?.text ?? "none"))
    case .ended(let miss):
      #expect(miss.chain == decision?.chain)
      #expect((miss.reason ?? "").contains(decision?.text ?? "none"))
    }
  }
}

extension ExplanationCase.Outcome {
  init(_ verdict: Explanation.Verdict) {
    switch verdict {
    case .captured(.tproxy): self = .tproxied
    case .captured(.redirect): self = .redirected
    case .direct: self = .direct
    case .rejected(let rejection): self = .rejected(rejection)
    case .dropped: self = .dropped
    }
  }
}

extension Packet {
  static func opening(_ source: String, _ destination: String) -> Packet {
    guard let source = IPAddress(source), let destination = IPAddress(destination) else {
      preconditionFailure("no addresses: \(source), \(destination)")
    }
    return Packet(
      from: source, to: destination, .tcp(source: 40000, destination: 443, .syn))
  }

  /// Both ends.
  mutating func turnToIPv6() {
    source = addresses("2a0f:1::2")[0]
    destination = addresses("2a0f:3::2")[0]
  }

  mutating func sendDatagram(to port: UInt16) {
    transport = .udp(source: 40000, destination: port)
  }

  mutating func go(to text: String) { destination = addresses(text)[0] }
}
