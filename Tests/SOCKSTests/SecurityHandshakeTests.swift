import Addressing
import SOCKS
import TestSupport
import Testing

struct SecurityHandshakeTests {
  private let target = endpoint("192.0.2.1:80")
  private let login = credentials("user", "pw")
  private static let both = [ProtectionLevel.confidentiality, .integrity]

  /// `I` and `C` of `PlainProtection`.
  private static let selection = hex("05 01")
  private static let context = hex("01 01 0001 BB")
  private static func agreed(_ level: UInt8) -> [UInt8] { hex("01 02 0002 49") + [level] }
  private static let reply = hex("05 00 00 01 C0000201 0438")
  private static func data(_ letter: Character, _ bytes: [UInt8]) -> [UInt8] {
    hex("01 03 00") + [UInt8(bytes.count + 1), letter.asciiValue!] + bytes
  }

  // MARK: Messages

  private static let heads: [(String, SecurityMessage?)] = [
    ("", nil), ("01", nil), ("01 01", nil), ("01 03 12", nil),
    ("01 01 0000", .token(.context, count: 0)), ("01 02 0001 49", .token(.protection, count: 1)),
    ("01 03 FFFF", .token(.data, count: 65535)), ("01 03 0100", .token(.data, count: 256)),
    ("01 FF", .abort), ("01 FF 0000", .abort),
  ]

  @Test(arguments: heads)
  func head(_ bytes: String, _ expected: SecurityMessage?) throws {
    #expect(try SecurityMessage.decode(from: hex(bytes).span) == expected)
  }

  @Test(arguments: [
    ("00", Violation.wrongSecurityVersion(0)), ("05", .wrongSecurityVersion(5)),
    ("01 00", .unexpectedSecurityMessage(0)), ("01 04", .unexpectedSecurityMessage(4)),
    ("01 FE", .unexpectedSecurityMessage(0xFE)),
  ])
  func wrongHead(_ bytes: String, _ violation: Violation) {
    #expect(throws: violation) { try SecurityMessage.decode(from: hex(bytes).span) }
  }

  @Test func encodedHead() {
    for count in [0, 1, 255, 256, 65535] {
      var head: [UInt8] = []
      SecurityMessage.encodeHead(.data, count: count, into: &head)
      #expect(head == [1, 3, UInt8(count >> 8), UInt8(count & 255)])
    }
  }

  // MARK: What is sent

  @Test func greetingNeverOffersToGoWithout() {
    #expect(SecurityClient(to: target, Self.both).sent == hex("05 01 01"))
    #expect(SecurityClient(to: target, Self.both, login).sent == hex("05 02 01 02"))
  }

  @Test func firstTokenAnswersTheSelection() {
    var client = SecurityClient(to: target, Self.both)
    #expect(client.receive(Self.selection) == (2, .receive))
    #expect(client.sent == hex("05 01 01  01 01 0001 AA"))
  }

  @Test func contextMayTakeMoreTurns() {
    var client = SecurityClient(to: target, Self.both)
    _ = client.receive(Self.selection)
    #expect(client.receive(hex("01 01 0001 CC")) == (5, .receive))
    #expect(client.receive(Self.context) == (5, .receive))
    #expect(
      client.sent == hex("05 01 01  01 01 0001 AA  01 01 0001 DD  01 02 0002 49 02"))
  }

  /// The last token and the level go together: the server may have nothing to say to the token.
  @Test(arguments: ["", "01 01 0000"])
  func contextMayEndWithOurToken(_ acknowledgement: String) {
    var client = SecurityClient(to: target, [.integrity])
    _ = client.receive(Self.selection)
    _ = client.receive(hex("01 01 0001 EE"))
    #expect(client.sent.suffix(11) == hex("01 01 0001 FF  01 02 0002 49 01"))
    _ = client.receive(hex(acknowledgement))
    #expect(client.receive(Self.agreed(1)).action == .receive)
    #expect(client.machine.level == .integrity)
  }

  // MARK: Whole conversations

  struct Conversation {
    var levels: [ProtectionLevel]
    var messages: [[UInt8]]
    var level: ProtectionLevel
    var asked: [UInt8]
    var rest: [UInt8] = []
  }

  private static let request = hex("05 01 00 01 C0000201 0050")
  private static let prologue = [selection, context]
  private static let conversations = [
    Conversation(
      levels: both, messages: prologue + [agreed(2), data("C", reply)], level: .confidentiality,
      asked: hex("02  01 03 000B 43") + request),
    Conversation(
      levels: both, messages: prologue + [agreed(1), data("I", reply)], level: .integrity,
      asked: hex("02  01 03 000B 49") + request),
    Conversation(
      levels: [.integrity], messages: prologue + [agreed(1), data("C", reply)], level: .integrity,
      asked: hex("01  01 03 000B 49") + request),
    // The request is encrypted, and the server may do as it likes with each message.
    Conversation(
      levels: [.selective], messages: prologue + [agreed(3), data("I", reply)], level: .selective,
      asked: hex("03  01 03 000B 43") + request),
    Conversation(
      levels: [.selective],
      messages: prologue + [
        agreed(3), data("C", Array(reply[..<5])), data("I", Array(reply[5...]) + hex("4849")),
      ],
      level: .selective, asked: hex("03  01 03 000B 43") + request, rest: hex("4849")),
    Conversation(
      levels: [.none, .integrity], messages: prologue + [agreed(0), reply], level: .none,
      asked: hex("00") + request),
    Conversation(
      levels: both,
      messages: prologue + [agreed(2), data("C", reply + hex("484900"))], level: .confidentiality,
      asked: hex("02  01 03 000B 43") + request, rest: hex("484900")),
    Conversation(
      levels: both,
      messages: prologue
        + [agreed(1), data("I", []), data("I", Array(reply[..<5])), data("I", Array(reply[5...]))],
      level: .integrity, asked: hex("02  01 03 000B 49") + request),
  ]

  @Test(arguments: conversations)
  func conversationInEveryFragmentation(_ conversation: Conversation) {
    let start = SecurityClient(to: target, conversation.levels)
    let messages = conversation.messages
    let expected = SecurityOutcome(
      action: .established,
      sent: hex("05 01 01  01 01 0001 AA  01 02 0002 49") + conversation.asked,
      level: conversation.level, boundAddress: endpoint("192.0.2.1:1080"), rest: conversation.rest)
    #expect(outcome(of: start, pieces: messages) == expected)
    for (index, message) in messages.enumerated() {
      for pieces in fragmentations(of: message) {
        let cut = Array(messages[..<index]) + pieces + Array(messages[(index + 1)...])
        #expect(outcome(of: start, pieces: cut) == expected)
      }
    }
    #expect(outcome(of: start, pieces: messages.joined().map { [$0] }) == expected)
  }

  /// Whatever was asked for, the server may choose another of the levels that are acceptable, and no other.
  @Test func everyAnswerToEveryOffer() {
    let lists = ProtectionLevel.allCases.flatMap { first in
      [[first]]
        + ProtectionLevel.allCases.filter { $0 != first }.map { [first, $0] }
        + [[first] + ProtectionLevel.allCases.filter { $0 != first }]
    }
    for levels in lists {
      for answer in UInt8(0)...4 {
        let end = outcome(
          of: SecurityClient(to: target, levels), pieces: Self.prologue + [Self.agreed(answer)])
        let asked = hex("05 01 01  01 01 0001 AA  01 02 0002 49") + [levels[0].rawValue]
        guard let level = ProtectionLevel(rawValue: answer), levels.contains(level) else {
          #expect(end.action == .failed(.protectionNotAcceptable(answer)))
          #expect(end.sent == asked)
          continue
        }
        #expect(end.action == .receive)
        #expect(end.level == level)
        let head: [UInt8] =
          switch level {
          case .none: []
          case .integrity: hex("01 03 000B 49")
          case .confidentiality, .selective: hex("01 03 000B 43")
          }
        #expect(end.sent == asked + head + Self.request)
      }
    }
  }

  @Test func whatFollowsTheReplyIsLeft() {
    let start = SecurityClient(to: target, Self.both)
    let behind = Self.data("C", hex("0102")) + hex("01 03")
    let last = Self.data("C", Self.reply) + behind
    let end = outcome(of: start, pieces: Self.prologue + [Self.agreed(2), last])
    #expect(end.action == .established)
    #expect(end.behind == behind)
  }

  @Test func serverMayPreferCredentials() {
    let start = SecurityClient(to: target, Self.both, login)
    let end = outcome(of: start, pieces: [hex("05 02"), hex("01 00"), Self.reply + hex("61")])
    #expect(end.action == .established)
    #expect(end.level == .none)
    #expect(end.behind == hex("61"))
    #expect(end.sent == hex("05 02 01 02  01 04 75736572 02 7077") + Self.request)
  }

  // MARK: Failures

  private static let failures: [([[UInt8]], HandshakeFailure)] = [
    ([hex("05 FF")], .noAcceptableMethod), ([hex("04")], .protocolViolation(.wrongVersion(4))),
    ([hex("05 00")], .protocolViolation(.methodNeverOffered(.noAuthentication))),
    ([hex("05 02")], .protocolViolation(.methodNeverOffered(.usernamePassword))),
    ([hex("05 01 01")], .protocolViolation(.trailingBytes)),
    ([selection, hex("01 FF")], .securityAborted),
    ([selection, hex("05")], .protocolViolation(.wrongSecurityVersion(5))),
    ([selection, hex("01 07")], .protocolViolation(.unexpectedSecurityMessage(7))),
    ([selection, agreed(1)], .protocolViolation(.unexpectedSecurityMessage(2))),
    ([selection, data("I", reply)], .protocolViolation(.unexpectedSecurityMessage(3))),
    ([selection, context + hex("01")], .protocolViolation(.trailingBytes)),
    ([selection, hex("01 01 0001 77")], .securityFailed(SecurityFailure("no such server"))),
    (
      [selection, hex("01 01 0001 00")],
      .securityFailed(
        SecurityFailure("the security mechanism has nothing to say to the server"))
    ),
    (prologue + [hex("01 FF")], .securityAborted),
    (prologue + [context], .protocolViolation(.unexpectedSecurityMessage(1))),
    (prologue + [agreed(0)], .protectionNotAcceptable(0)),
    (prologue + [agreed(3)], .protectionNotAcceptable(3)),
    (prologue + [agreed(4)], .protectionNotAcceptable(4)),
    (prologue + [hex("01 02 0001 49")], .protocolViolation(.malformedProtectionLevel)),
    (prologue + [hex("01 02 0003 49 01 01")], .protocolViolation(.malformedProtectionLevel)),
    (prologue + [hex("01 02 0001 01")], .securityFailed(SecurityFailure("not genuine"))),
    (prologue + [hex("01 02 0000")], .securityFailed(SecurityFailure("not genuine"))),
    (prologue + [agreed(2), hex("01 FF")], .securityAborted),
    (prologue + [agreed(2), context], .protocolViolation(.unexpectedSecurityMessage(1))),
    (prologue + [agreed(2), reply], .protocolViolation(.wrongSecurityVersion(5))),
    (prologue + [agreed(2), data("I", reply)], .protocolViolation(.unprotectedMessage)),
    (prologue + [agreed(1), data("X", reply)], .securityFailed(SecurityFailure("not genuine"))),
    (prologue + [agreed(1), data("I", hex("05 05"))], .refused(.connectionRefused)),
    (prologue + [agreed(1), data("I", hex("04"))], .protocolViolation(.wrongVersion(4))),
  ]

  @Test(arguments: failures)
  func failure(_ messages: [[UInt8]], _ expected: HandshakeFailure) {
    let start = SecurityClient(to: target, Self.both)
    #expect(outcome(of: start, pieces: messages).action == .failed(expected))
  }

  @Test func endInPlaceOfEachMessage() {
    let phases: [HandshakePhase] = [
      .methodSelection, .authentication, .authentication, .reply,
    ]
    let messages = Self.prologue + [Self.agreed(1)]
    for (count, phase) in phases.enumerated() {
      var client = SecurityClient(to: target, Self.both)
      for message in messages.prefix(count) { _ = client.receive(message) }
      var machine = client.machine
      #expect(machine.receiveEnd() == .closed(phase))
      #expect(machine.receiveEnd() == .closed(phase))
    }
  }

  @Test func nothingIsReceivedWhileAStepIsMade() {
    var client = SecurityClient(to: target, Self.both)
    var machine = client.machine
    var sent: [UInt8] = []
    #expect(machine.receive(Self.selection.span, PlainProtection(), into: &sent) == (2, .step))
    #expect(machine.isStepping)
    #expect(machine.token == [])
    #expect(machine.receive(Self.context.span, PlainProtection(), into: &sent) == (0, .step))
    #expect(sent == [])
    _ = client.receive(Self.selection)
    #expect(!client.machine.isStepping)
  }

  @Test func ticketThatIsMissing() {
    var machine = SecurityClient(to: target, Self.both).machine
    var sent: [UInt8] = []
    _ = machine.receive(Self.selection.span, PlainProtection(), into: &sent)
    machine.handleStep(.failure(SecurityFailure("kinit")), PlainProtection(), into: &sent)
    let nothing: [UInt8] = []
    #expect(
      machine.receive(nothing.span, PlainProtection(), into: &sent)
        == (0, .failed(.securityFailed(SecurityFailure("kinit")))))
    #expect(sent == [])
  }

  @Test func tokenThatNoMessageCanCarry() {
    let token = [UInt8](repeating: 1, count: 65536)
    var machine = SecurityClient(to: target, Self.both).machine
    var sent: [UInt8] = []
    _ = machine.receive(Self.selection.span, PlainProtection(), into: &sent)
    machine.handleStep(
      .success(SecurityStep(token: token, isComplete: false)), PlainProtection(), into: &sent)
    let nothing: [UInt8] = []
    guard
      case .failed(.securityFailed) =
        machine.receive(nothing.span, PlainProtection(), into: &sent).action
    else {
      Issue.record("it was taken")
      return
    }
  }

  /// However a message is damaged, the conversation ends in a value, and in the same one with every message
  /// cut.
  @Test func damagedConversations() {
    var generator = SplitMix(seed: 1961)
    var established = 0
    for round in 0..<20_000 {
      let conversation = Self.conversations[round % Self.conversations.count]
      var messages = conversation.messages
      let damaged = Int.random(in: messages.indices, using: &generator)
      messages[damaged] = mutated(messages[damaged], using: &generator)
      let start = SecurityClient(to: target, conversation.levels)
      let cut = messages.flatMap { randomPieces(of: $0, using: &generator) }
      let (whole, pieces) = (outcome(of: start, pieces: messages), outcome(of: start, pieces: cut))
      if case .failed(.protocolViolation(.trailingBytes)) = whole.action { continue }
      #expect(whole == pieces)
      if whole.action == .established { established += 1 }
    }
    // The comparison would be worth little if nearly all conversations failed.
    #expect(established > 1000)
  }
}
