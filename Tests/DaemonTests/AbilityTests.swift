import Addressing
import DataPlane
import SOCKS
import Testing

@testable import Daemon

struct AbilityTests {
  private static let answered = Exchange.answered(microseconds: 30_000)
  private static let refused = Exchange.refused(.code(2, "not allowed"))

  // MARK: Refusals

  @Test(
    arguments: [
      (HandshakeFailure.refused(.notAllowed), Ability.State.refused, 2),
      (.refusedByHTTP(HTTPStatus(403)), .refused, 403),
      (.refusedBySOCKS4(.rejected), .refused, 0x5B),
      (.closed(.reply), .refused, nil), (.closed(.answer), .refused, nil),
      (.destinationNotSupported, .notOffered, nil), (.datagramsNotSupported, .notOffered, nil),
      (.protocolViolation(.wrongVersion(4)), .unknown, nil),
    ] as [(HandshakeFailure, Ability.State, Int?)])
  func refusalsAreToldByTheirCode(_ failure: HandshakeFailure, _ state: Ability.State, _ code: Int?)
  {
    let ability = Ability(refusal: Refusal(failure))
    #expect(ability.state == state)
    #expect(ability.code == code)
  }

  @Test func aReplyInTimeIsNoSilence() {
    #expect(Refusal(.replied(.succeeded), nil) == nil)
    #expect(Refusal(.failed(.closed(.reply), isTimeout: true), .closed(.reply)) == .silence)
    #expect(Refusal(.failed(.closed(.reply), isTimeout: false), .closed(.reply)) == .closed)
    #expect(
      Refusal(.stuck(.closed(.reply), isTimeout: true, hop: 0), .closed(.reply)) == .silence)
  }

  // MARK: Connections

  @Test(
    arguments: [
      (answered, .works), (.connected(microseconds: 5), .works),
      (.ended(microseconds: 5), .noAnswer), (.silence, .noAnswer), (refused, .refused),
      (.refused(.closed), .refused), (.refused(.silence), .noAnswer),
      (.refused(.notOffered), .notOffered), (.refused(.trouble("no")), .unknown), (nil, .noAnswer),
    ] as [(Exchange?, Ability.State)])
  func connectionIsJudgedByItsAnswer(_ exchange: Exchange?, _ state: Ability.State) throws {
    let target = try #require(Endpoint("192.0.2.1:53"))
    let ability = Ability(connecting: exchange, to: target)
    #expect(ability.state == state)
    #expect(ability.target == target)
  }

  @Test(
    arguments: [
      ([nil, .silence], answered, .works), ([.code(5, "refused"), .silence], nil, .works),
      ([.closed, nil], answered, .works), ([.silence, .code(5, "refused")], refused, .works),
      ([.silence, .silence], answered, .noAnswer), ([.closed, .closed], answered, .refused),
      // It may end the connection over every target that it does not reach.
      ([.closed, .closed], refused, .unknown), ([.closed, .closed], nil, .unknown),
      ([.silence, .trouble("wrong version")], answered, .refused),
      ([.notOffered, .notOffered], answered, .notOffered),
    ] as [([Refusal?], Exchange?, Ability.State)])
  func anyReplyToAPipelinedHandshakeProvesIt(
    _ refusals: [Refusal?], _ plain: Exchange?, _ state: Ability.State
  ) {
    #expect(Ability(pipelining: refusals, plain: plain).state == state)
  }

  // MARK: Early data

  @Test(
    arguments: [
      (answered, answered, nil, .works),
      (.silence, answered, nil, .noAnswer),
      (.ended(microseconds: 9), answered, nil, .refused),
      (.refused(.closed), answered, nil, .refused),
      (nil, answered, nil, .noAnswer),
      // The resolver is silent anyway.
      (.silence, .silence, nil, .unknown), (refused, refused, nil, .unknown),
      (nil, nil, nil, .unknown),
      // A target of our own tells.
      (refused, nil, .answered, .works), (.silence, nil, .lost, .noAnswer),
      (.ended(microseconds: 9), answered, .answered, .works),
    ] as [(Exchange?, Exchange?, Witness.Testimony?, Ability.State)])
  func earlyDataIsComparedWithPlain(
    _ early: Exchange?, _ plain: Exchange?, _ testimony: Witness.Testimony?, _ state: Ability.State
  ) {
    #expect(Ability(early: early, plain: plain, testimony: testimony).state == state)
  }

  /// `auto` believes in it only if it arrives in each way, and nothing is lost in any.
  @Test(
    arguments: [
      ([], answered, .unknown),
      ([.init(testimonies: [.answered, .answered])], nil, .arrives),
      ([.init(testimonies: [nil, nil], exchange: answered)], answered, .arrives),
      ([.init(testimonies: [.answered, nil], exchange: .silence)], .silence, .arrives),
      ([.init(testimonies: [.answered, .answered], exchange: .silence)], answered, .isLost),
      ([.init(testimonies: [.answered, .lost], exchange: answered)], answered, .isLost),
      ([.init(testimonies: [nil, nil], exchange: .silence)], .silence, .unknown),
      ([.init(testimonies: [nil, nil])], answered, .unknown),
      (
        [.init(testimonies: [.answered, .answered]), .init(testimonies: [nil, nil])], nil, .unknown
      ),
      (
        [.init(testimonies: [.answered, .answered]), .init(testimonies: [nil, .lost])], nil,
        .isLost
      ),
    ] as [([EarlyDataInquiry.Evidence], Exchange?, EarlyDataInquiry.Verdict)])
  func earlyDataHasToArriveInEveryWay(
    _ ways: [EarlyDataInquiry.Evidence], _ plain: Exchange?, _ verdict: EarlyDataInquiry.Verdict
  ) {
    #expect(EarlyDataInquiry.verdict(of: ways, plain: plain) == verdict)
  }

  // MARK: Half-close

  struct HalfClose: Sendable {
    let evidence: HalfCloseEvidence
    let verdict: HalfCloseEvidence.Verdict
    let wantsDirect: Bool

    init(
      _ verdict: HalfCloseEvidence.Verdict, plain: [Exchange] = [], ending: [Exchange] = [],
      testimony: Witness.Testimony? = nil, direct: Exchange? = nil, wantsDirect: Bool = false
    ) {
      evidence = HalfCloseEvidence(
        plain: plain, ending: ending, testimony: testimony, direct: direct)
      self.verdict = verdict
      self.wantsDirect = wantsDirect
    }
  }

  private static let fast = Exchange.answered(microseconds: 10_000)
  private static let soon = Exchange.ended(microseconds: 3000)
  private static let late = Exchange.ended(microseconds: 9000)

  @Test(arguments: [
    HalfClose(.unknown),
    HalfClose(.passes, plain: [answered], ending: [answered, answered]),
    // A target of our own knows for certain, whatever a resolver does.
    HalfClose(.passes, plain: [answered], ending: [soon, soon], testimony: .answered),
    HalfClose(.drops, plain: [answered], ending: [answered, answered], testimony: .lost),
    HalfClose(.drops, testimony: .lost),
    // The resolver may be the one who gives up.
    HalfClose(.unknown, plain: [fast], ending: [late, late], wantsDirect: true),
    HalfClose(.unknown, plain: [fast], ending: [.silence], wantsDirect: true),
    HalfClose(.drops, plain: [fast], ending: [late, late], direct: answered),
    HalfClose(.unknown, plain: [fast], ending: [late, late], direct: .ended(microseconds: 1)),
    // One of two was faster than the end.
    HalfClose(.unknown, plain: [fast], ending: [fast, late], wantsDirect: true),
    HalfClose(.drops, plain: [fast], ending: [fast, late], direct: answered),
    // The end comes from nearer than the answer.
    HalfClose(.drops, plain: [fast, answered], ending: [soon, soon]),
    HalfClose(.drops, plain: [fast], ending: [.silence, soon]),
    // Too near to tell.
    HalfClose(
      .unknown, plain: [.answered(microseconds: 900)], ending: [.ended(microseconds: 100)],
      wantsDirect: true),
    // Nothing answers through it at all, or it has not connected us.
    HalfClose(.unknown, plain: [.silence], ending: [soon], direct: answered),
    HalfClose(.unknown, plain: [refused], ending: [refused, refused]),
    HalfClose(.unknown, plain: [answered], ending: [refused, refused]),
    HalfClose(.passes, plain: [answered], ending: [refused, answered]),
  ])
  func halfCloseIsJudgedByWhatWasSeen(_ test: HalfClose) {
    #expect(test.evidence.verdict == test.verdict)
    #expect(test.evidence.wantsDirect == test.wantsDirect)
    let states: [HalfCloseEvidence.Verdict: Ability.State] = [
      .passes: .works, .drops: .refused, .unknown: .unknown,
    ]
    #expect(Ability(test.evidence).state == states[test.verdict])
  }

  // MARK: Datagrams and methods

  @Test func mappingIsKnownOnceEveryTargetHasSeenASource() throws {
    let one = try #require(SocketAddress("192.0.2.1:1000"))
    let other = try #require(SocketAddress("192.0.2.1:1001"))
    #expect(DatagramFinding.Mapping([one, one]) == .endpointIndependent)
    #expect(DatagramFinding.Mapping([one, other]) == .endpointDependent)
    #expect(DatagramFinding.Mapping([one, nil]) == .unknown)
    #expect(DatagramFinding.Mapping([nil, nil]) == .unknown)
  }

  @Test func methodIsTakenIfItIsSelected() {
    #expect(Ability([5, 2], offered: .usernamePassword).state == .works)
    #expect(Ability([5, 0xFF], offered: .usernamePassword).state == .refused)
    #expect(Ability([5, 0], offered: .gssapi).state == .refused)
  }

  // MARK: Targets

  @Test func targetsAreOneOfEachKind() throws {
    let resolver = try #require(SocketAddress("192.0.2.53:5353"))
    let targets = try ProbeTargets(["[2001:db8::7]:443", "example.com:80"], resolver: resolver)
    #expect(targets.ipv4 == .address(resolver))
    #expect(targets.ipv6 == Endpoint("[2001:db8::7]:443"))
    #expect(targets.named == Endpoint("example.com:80"))
    #expect(targets.resolver == resolver)
    #expect(targets.isResolver(targets.ipv4))
    #expect(!targets.isResolver(targets.ipv6))
    #expect(throws: CommandFailure.self) { try ProbeTargets(["example.com"], resolver: resolver) }
    #expect(throws: CommandFailure.self) {
      try ProbeTargets(["a.example:1", "b.example:1"], resolver: resolver)
    }
  }

  @Test func resolverIsAskedForItsAnswer() {
    let question = ResolverQuestion()
    var answer = question.message
    answer[2] |= 0x80
    #expect(question.isAnswered(by: answer))
    #expect(!question.isAnswered(by: question.message), "an echo is no answer")
    answer[0] ^= 1
    #expect(!question.isAnswered(by: answer), "nor is that to another question")
  }
}
