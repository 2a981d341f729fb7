import Addressing
import NFTables
import Testing

/// How rules are walked through, on tables made for the purpose.
struct EvaluatorTests {
  private static let early = Chain.Base(.filter, .output, .mangle)
  private static let late = Chain.Base(.filter, .output, .filter)

  /// Ends at `output`, and the comments of the rules that held.
  private func walk(_ chains: Chain...) -> (Evaluator.End, [String], Packet) {
    let table = Table(
      family: .inet, name: "t",
      sets: [NamedSet("ports", ports: [443...443]), NamedSet("names", interfaces: ["wan*"])],
      chains: chains)
    var evaluator = Evaluator([table], Packet.opening("11.1.0.2", "11.3.0.2"))
    let end = evaluator.pass(.output)
    let comments = evaluator.events.compactMap { event in
      if case .matched(let step) = event { step.rule.comment } else { nil }
    }
    return (end, comments, evaluator.packet)
  }

  private func verdict(_ verdict: Verdict, _ comment: String) -> Rule {
    Rule(.verdict(verdict), comment: comment)
  }

  @Test func aJumpComesBackAndAGotoDoesNot() {
    let called = Chain("called", rules: [verdict(.return, "called"), verdict(.drop, "never")])
    let (end, comments, _) = walk(
      called,
      Chain("gone", rules: [Rule(.verdict(.jump("called")), comment: "gone")]),
      Chain(
        "base", Self.early,
        rules: [
          verdict(.jump("called"), "jump"), verdict(.goto("gone"), "goto"),
          verdict(.drop, "never"),
        ]))
    #expect(end == .accepted)
    #expect(comments == ["jump", "called", "goto", "gone", "called"])
  }

  /// Where a chain was reached by goto, its return leads to whoever jumped before.
  @Test func aGotoInsideAJumpReturnsToTheJump() {
    let (_, comments, _) = walk(
      Chain("inner", rules: [verdict(.return, "inner")]),
      Chain("outer", rules: [verdict(.goto("inner"), "outer"), verdict(.drop, "never")]),
      Chain(
        "base", Self.early,
        rules: [verdict(.jump("outer"), "base"), verdict(.accept, "behind the jump")]))
    #expect(comments == ["base", "outer", "inner", "behind the jump"])
  }

  @Test func anAcceptEndsOneBaseChainAndADropAll() {
    let accepting = Chain("a", Self.early, rules: [verdict(.accept, "a"), verdict(.drop, "never")])
    let (end, comments, _) = walk(
      Chain("b", Self.late, rules: [verdict(.drop, "b")]), accepting,
      Chain("c", Chain.Base(.filter, .output, .dstnat), rules: [verdict(.return, "c")]))
    #expect(end == .dropped)
    #expect(comments == ["a", "c", "b"])
  }

  /// Of chains with one priority the last one that was made.
  @Test func newerChainsComeFirst() {
    let (_, comments, _) = walk(
      Chain("a", Self.late, rules: [verdict(.accept, "a")]),
      Chain("b", Self.late, rules: [verdict(.accept, "b")]))
    #expect(comments == ["b", "a"])
  }

  @Test func marksAreWrittenUnderTheirMask() {
    func set(_ value: UInt32) -> Rule {
      Rule(.setMark(MarkAssignment(.packet, MaskedMark(value, mask: 0xF0))))
    }
    let match = MarkMatch(.packet, MaskedMark(0x20, mask: 0xF0))
    let (end, _, packet) = walk(
      Chain("a", Self.early, rules: [set(0x50), set(0x20), Rule(.mark(match), .reject(.tcpReset))]))
    #expect(end == .rejected(.tcpReset))
    #expect(packet.mark == 0x20)
  }

  /// Where a chain ends without a verdict, its last rule says why; not if that held.
  @Test(arguments: [(IPFamily.v6, "it is IPv4"), (.v4, nil)] as [(IPFamily, String?)])
  func theEndSaysWhatWasMissed(family: IPFamily, reason: String?) {
    let table = Table(
      family: .inet, name: "t", sets: [],
      chains: [
        Chain("gone", rules: [Rule(.family(FamilyMatch(family)))]),
        Chain("base", Self.early, rules: [verdict(.goto("gone"), "goto")]),
      ])
    var evaluator = Evaluator([table], Packet.opening("11.1.0.2", "11.3.0.2"))
    #expect(evaluator.pass(.output) == .accepted)
    guard case .ended(let miss) = evaluator.events.last else {
      Issue.record("no end")
      return
    }
    #expect([miss.base, miss.chain] == ["base", "gone"])
    #expect(miss.reason == reason)
  }

  /// What a rule does before a match that fails is done.
  @Test func statementsActInOrder() {
    let (_, comments, packet) = walk(
      Chain(
        "a", Self.early,
        rules: [
          Rule(
            .setMark(MarkAssignment(.connection, MaskedMark(1, mask: 1))),
            .family(FamilyMatch(.v6)), .verdict(.drop), comment: "never")
        ]))
    #expect(packet.connectionMark == 1)
    #expect(comments.isEmpty)
  }

  @Test(arguments: [
    (Expression.port(PortLookup(.tcp, .destination, in: "ports")), true),
    (.port(PortLookup(.tcp, .source, in: "ports")), false),
    (.port(PortLookup(.tcp, .source, .notEqual, in: "ports")), true),
    (.port(PortLookup(.udp, .destination, .notEqual, in: "ports")), false),
    (.address(AddressLookup(.v6, .destination, .notEqual, in: "ports")), false),
    (.icmpType(ICMPTypeLookup(.v4, in: "ports")), false),
    (.interface(InterfaceMatch(.input, .notEqual, .set("names"))), true),
    (.interface(InterfaceMatch(.output, .equal, .set("names"))), false),
    (.interfaceGroup(InterfaceGroupLookup(.notEqual, in: "names")), false),
    (.hardwareAddress(HardwareAddressLookup(in: "ports")), false),
    (.owner(SocketOwnerLookup(.user, in: "ports")), false),
    (.controlGroup(ControlGroupLookup(level: 1, in: "ports")), false),
    (.transport(TransportMatch(.notEqual, .udp)), true),
    (.direction(.reply), false),
    (.status(.translatedSource), false),
    (.flags(TCPFlagsMatch(.equal, .syn, of: [.syn, .ack])), true),
    (.socket(.transparent), false),
  ])
  func whatIsAbsentMatchesNothing(_ match: Expression, holds: Bool) {
    let (end, _, _) = walk(Chain("a", Self.early, rules: [Rule(match, .verdict(.drop))]))
    #expect(end == (holds ? .dropped : .accepted))
  }

  /// Destination NAT is decided where a connection first could get one.
  @Test func addressTranslationComesOnce() {
    let chain = { (name: String, hook: Chain.Hook, port: UInt16) in
      Chain(
        name, Chain.Base(.nat, hook, .dstnat), rules: [Rule(.redirect(Redirect(to: port)))])
    }
    let table = Table(
      family: .inet, name: "t", sets: [],
      chains: [chain("a", .output, 1), chain("b", .prerouting, 2)])
    var evaluator = Evaluator([table], Packet.opening("11.1.0.2", "11.3.0.2"))
    #expect(evaluator.pass(.output) == .accepted)
    evaluator.loopBack()
    #expect(evaluator.pass(.prerouting) == .accepted)
    #expect(evaluator.captured == .redirect(SocketAddress(.v4(.loopback), 1)))
    #expect(evaluator.packet.destinationType == .local)
  }
}
