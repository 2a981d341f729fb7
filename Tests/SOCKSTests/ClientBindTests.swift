import Addressing
import SOCKS
import TestSupport
import Testing

/// BIND on the client's side, with its two replies, by every protocol that has it.
struct ClientBindTests {
  private static let peer = endpoint("192.0.2.1:8080")
  private static let longest = String(repeating: "a", count: 255)

  // MARK: What is sent

  @Test func requests() throws {
    var client = Client(.bind, to: Self.peer, nil, .stepwise)
    #expect(client.receive(hex("05 00")) == (2, .receive))
    #expect(client.sent == hex("05 01 00  05 02 00 01 C0000201 1F90"))
    #expect(
      Client(.bind, to: endpoint("[::]:0"), nil, .pipelined).sent
        == hex("05 01 00  05 02 00 04 00000000000000000000000000000000 0000"))
    #expect(
      try SOCKS4BindClient(to: endpoint("0.0.0.0:80"), UserID("me".utf8)).sent
        == hex("04 02 0050 00000000 6D65 00"))
  }

  // MARK: SOCKS5

  /// The fields of both replies, and what they mean.
  private static let replies: [(String, Endpoint?, String, Endpoint?)] = [
    (
      "01 C6336401 0438", endpoint("198.51.100.1:1080"), "01 C0000201 1F90",
      endpoint("192.0.2.1:8080")
    ),
    ("01 00000000 0438", endpoint("0.0.0.0:1080"), "01 00000000 0000", endpoint("0.0.0.0:0")),
    (
      "04 20010DB8000000000000000000000001 0438", endpoint("[2001:db8::1]:1080"),
      "03 01 78 0050", endpoint("x:80")
    ),
    ("03 00 1F90", nil, "03 02 C328 1F90", nil),
    (
      "03 FF" + String(repeating: "61", count: 255) + "0001", endpoint(longest + ":1"),
      "03 FF" + String(repeating: "61", count: 255) + "0002", endpoint(longest + ":2")
    ),
  ]

  @Test(arguments: replies)
  func bothReplies(
    _ first: String, _ listener: Endpoint?, _ second: String, _ peer: Endpoint?
  ) {
    for pieces in fragmentations(of: hex("05 00 00" + first + "05 00 FF" + second + "BEEF")) {
      var client = Self.asked
      let end = feed(pieces) { client.receive($0) }
      #expect(end == BindOutcome(action: .established, listeners: 1, rest: hex("BEEF")))
      #expect(client.boundAddress == listener)
      #expect(client.peer == peer)
    }
  }

  /// A listener is told of as soon as its reply is whole, and it is told where it is.
  @Test func firstReplyAlone() {
    for pieces in fragmentations(of: hex("05 00 00 01 C6336401 0438")) {
      var client = Self.asked
      #expect(feed(pieces) { client.receive($0) } == BindOutcome(action: .receive, listeners: 1))
      #expect(client.boundAddress == endpoint("198.51.100.1:1080"))
      #expect(client.boundPort == 1080)
      #expect(client.peer == nil)
      #expect(client.receiveEnd() == .closed(.reply))
    }
  }

  @Test func everyRefusal() {
    let granted = hex("05 00 00 01 C6336401 0438")
    for code in UInt8(1)...UInt8.max {
      let failure = HandshakeFailure.refused(ReplyCode(rawValue: code))
      for (bytes, listeners) in [([5, code], 0), (granted + [5, code], 1)] {
        for pieces in fragmentations(of: bytes) {
          var client = Self.asked
          let end = feed(pieces) { client.receive($0) }
          #expect(end == BindOutcome(action: .failed(failure), listeners: listeners))
        }
      }
    }
  }

  @Test func wrongSecondReply() {
    for (second, violation) in [
      ("04", Violation.wrongVersion(4)), ("05 00 00 02", .unknownAddressType(2)),
    ] {
      for pieces in fragmentations(of: hex("05 00 00 01 C6336401 0438" + second)) {
        var client = Self.asked
        let end = feed(pieces) { client.receive($0) }
        #expect(
          end == BindOutcome(action: .failed(.protocolViolation(violation)), listeners: 1))
      }
    }
  }

  @Test func pipelined() {
    let answers = hex(
      "05 02  01 00  05 00 00 01 C6336401 0438  05 00 00 01 C0000201 1F90  BEEF")
    for pieces in fragmentations(of: answers) {
      var client = Client(.bind, to: Self.peer, credentials("u", "p"), .pipelined)
      let end = feed(pieces) { client.receive($0) }
      #expect(end == BindOutcome(action: .established, listeners: 1, rest: hex("BEEF")))
    }
  }

  // MARK: SOCKS4

  @Test func bothRepliesOfSOCKS4() throws {
    for pieces in fragmentations(of: hex("00 5A 0438 C6336401  00 5A 1F90 C0000201  BEEF")) {
      var client = try SOCKS4BindClient(to: Self.peer, nil)
      let end = feed(pieces) { client.machine.receive($0.span) }
      #expect(end == BindOutcome(action: .established, listeners: 1, rest: hex("BEEF")))
      #expect(client.machine.listener.map(Endpoint.address) == endpoint("198.51.100.1:1080"))
      #expect(client.machine.peer.map(Endpoint.address) == endpoint("192.0.2.1:8080"))
    }
  }

  @Test func refusalsOfSOCKS4() throws {
    let refused = BindOutcome(action: .failed(.refusedBySOCKS4(.rejected)), listeners: 0)
    for pieces in fragmentations(of: hex("00 5B")) {
      var client = try SOCKS4BindClient(to: Self.peer, nil)
      #expect(feed(pieces) { client.machine.receive($0.span) } == refused)
    }
    for pieces in fragmentations(of: hex("00 5A 0438 C6336401  00 5B")) {
      var client = try SOCKS4BindClient(to: Self.peer, nil)
      let end = feed(pieces) { client.machine.receive($0.span) }
      #expect(end == BindOutcome(action: refused.action, listeners: 1))
    }
    var client = try SOCKS4BindClient(to: Self.peer, nil)
    _ = client.machine.receive(hex("00 5A 0438 C6336401").span)
    #expect(client.machine.receiveEnd() == .closed(.answer))
  }

  // MARK: GSSAPI

  private static let first = hex("05 00 00 01 C6336401 0438")
  private static let second = hex("05 00 00 01 C0000201 1F90")

  /// The replies in messages of their own, in one, and cut across them, with a byte for the application.
  @Test(arguments: [
    [first, second + [0xAA]], [first + second + [0xAA]],
    [Array(first[..<3]), Array(first[3...] + second[..<4]), Array(second[4...]) + [0xAA]],
    [first, [], second, [0xAA]],
  ])
  func protectedReplies(messages: [[UInt8]]) {
    var bytes: [UInt8] = []
    for message in messages {
      bytes += hex("01 03 00") + [UInt8(message.count + 1), 0x43] + message
    }
    for pieces in fragmentations(of: bytes) {
      var client = Self.protected(.confidentiality)
      let end = feed(pieces) { client.receive($0) }
      #expect(end.action == .established)
      #expect(end.listeners == 1)
      #expect(client.machine.boundAddress == endpoint("198.51.100.1:1080"))
      #expect(client.machine.peer == endpoint("192.0.2.1:8080"))
      // What is behind the message with the reply is left to who unwraps the stream.
      let behind = messages.count == 4 ? hex("01 03 0002 43 AA") : []
      #expect(end.rest == behind)
      #expect(client.machine.rest == (messages.count == 4 ? [] : [0xAA]))
    }
  }

  @Test func repliesWithoutProtection() {
    for pieces in fragmentations(of: Self.first + Self.second + [0xAA]) {
      var client = Self.protected(.none)
      let end = feed(pieces) { client.receive($0) }
      #expect(end == BindOutcome(action: .established, listeners: 1, rest: [0xAA]))
      #expect(client.machine.peer == endpoint("192.0.2.1:8080"))
    }
  }

  @Test func protectedRefusal() {
    var client = Self.protected(.integrity)
    let bytes = hex("01 03 000B 49") + Self.first + hex("01 03 0003 49 05 06")
    let end = feed([bytes]) { client.receive($0) }
    #expect(end == BindOutcome(action: .failed(.refused(.ttlExpired)), listeners: 1))
  }

  // MARK: Random input

  /// Random answers, good ones above all, however they are cut.
  @Test(arguments: 0..<4 as Range<UInt64>)
  func piecesMakeNoDifference(seed: UInt64) {
    var generator = SplitMix(seed: seed)
    var ends: [BindOutcome: Int] = [:]
    for _ in 0..<5_000 {
      var bytes: [UInt8] = []
      for _ in 0..<2 { bytes += hex("05 00 00") + Self.field(using: &generator) }
      bytes += (0..<Int.random(in: 0...6, using: &generator)).map { _ in telling(using: &generator)
      }
      if Bool.random(using: &generator) { bytes = mutated(bytes, using: &generator) }
      if Int.random(in: 0..<4, using: &generator) == 0 {
        bytes.removeLast(Int.random(in: 0...bytes.count, using: &generator))
      }
      var (whole, cut) = (Self.asked, Self.asked)
      let expected = feed([bytes]) { whole.receive($0) }
      let pieces = randomPieces(of: bytes, using: &generator)
      #expect(feed(pieces) { cut.receive($0) } == expected)
      #expect(cut.boundAddress == whole.boundAddress)
      #expect(cut.peer == whole.peer)
      ends[BindOutcome(action: expected.action, listeners: expected.listeners), default: 0] += 1
    }
    #expect(ends[BindOutcome(action: .established, listeners: 1), default: 0] > 1_000)
    #expect(ends[BindOutcome(action: .receive, listeners: 1), default: 0] > 100)
    #expect(ends[BindOutcome(action: .receive, listeners: 0), default: 0] > 100)
  }

  private static func field(using generator: inout SplitMix) -> [UInt8] {
    switch Int.random(in: 0..<3, using: &generator) {
    case 0: hex("01 C6336401 0438")
    case 1: hex("04 20010DB8000000000000000000000001 0438")
    default: hex("03 0B 6578616D706C652E636F6D 1F90")
    }
  }

  // MARK: Clients

  /// One that has asked for a listener.
  private static var asked: Client {
    var client = Client(.bind, to: peer, nil, .stepwise)
    _ = client.receive(hex("05 00"))
    return client
  }

  private static func protected(_ level: ProtectionLevel) -> SecurityClient {
    var client = SecurityClient(.bind, to: peer, [level])
    _ = client.receive(hex("05 01"))
    _ = client.receive(hex("01 01 0001 BB"))
    _ = client.receive(hex("01 02 0002 49") + [level.rawValue])
    return client
  }
}

private struct SOCKS4BindClient {
  var machine: SOCKS4Handshake
  private(set) var sent: [UInt8] = []

  init(to destination: Endpoint, _ user: UserID?) throws(HandshakeFailure) {
    machine = try SOCKS4Handshake(.bind, destination: destination, user: user, takesNames: false)
    sent.append(addingCapacity: SOCKS4Handshake.maximumOutputBytes) { machine.start(into: &$0) }
  }
}

/// What came of feeding a machine with some bytes.
private struct BindOutcome: Hashable {
  var action: ClientHandshake.Action
  /// How often it has told of a listener.
  var listeners: Int
  /// What an established connection leaves to the application.
  var rest: [UInt8] = []
}

/// Feeds the pieces one after the other, until the machine ends or there are no more.
private func feed(
  _ pieces: [[UInt8]],
  to receive: ([UInt8]) -> (consumed: Int, action: ClientHandshake.Action)
) -> BindOutcome {
  var listeners = 0
  for (index, piece) in pieces.enumerated() {
    var (consumed, action) = receive(piece)
    if action == .listening {
      listeners += 1
      let more = receive(Array(piece[consumed...]))
      (consumed, action) = (consumed + more.consumed, more.action)
    }
    precondition((0...piece.count).contains(consumed), "took bytes that are not there")
    precondition(action != .receive || consumed == piece.count, "left bytes and asked for more")
    guard action != .receive else { continue }
    precondition(receive([5, 0, 0]) == (0, action), "did not repeat how it ended")
    let rest = action == .established ? Array(pieces[index...].joined().dropFirst(consumed)) : []
    return BindOutcome(action: action, listeners: listeners, rest: rest)
  }
  return BindOutcome(action: .receive, listeners: listeners)
}
