import Addressing
import SOCKS
import TestSupport
import Testing

/// SOCKS4 and SOCKS4a.
struct SOCKS4HandshakeTests {
  private static let target = endpoint("192.0.2.1:80")
  private static let longest = String(repeating: "n", count: 255)

  // MARK: What is sent

  private static let requests: [(String, String, Bool, String)] = [
    ("192.0.2.1:80", "", false, "04 01 0050 C0000201 00"),
    ("192.0.2.1:80", "", true, "04 01 0050 C0000201 00"),
    ("255.255.255.255:65535", "me", false, "04 01 FFFF FFFFFFFF 6D65 00"),
    ("0.0.0.0:0", "", true, "04 01 0000 00000000 00"),
    ("0.0.1.0:1", "", true, "04 01 0001 00000100 00"),
    ("example.com:8080", "", true, "04 01 1F90 00000001 00 6578616D706C652E636F6D 00"),
    ("x:1", "me", true, "04 01 0001 00000001 6D65 00 78 00"),
  ]

  @Test(arguments: requests)
  func request(
    _ destination: String, _ user: String, _ takesNames: Bool, _ expected: String
  ) throws {
    let client = try SOCKS4Client(to: endpoint(destination), UserID(user.utf8), takesNames)
    #expect(client.sent == hex(expected))
  }

  @Test func longestRequestFillsItsOutput() throws {
    let client = try SOCKS4Client(
      to: endpoint(Self.longest + ":1"), UserID(Self.longest.utf8), true)
    #expect(client.sent.count == SOCKS4Handshake.maximumOutputBytes)
  }

  @Test(arguments: [
    ("[2001:db8::1]:443", false), ("[2001:db8::1]:443", true), ("[::]:0", true),
    ("example.com:80", false), ("0.0.0.1:80", false), ("0.0.0.255:80", true),
  ])
  func whatNoRequestCarries(_ destination: String, _ takesNames: Bool) {
    #expect(throws: HandshakeFailure.destinationNotSupported) {
      try SOCKS4Client(to: endpoint(destination), nil, takesNames)
    }
  }

  @Test func userLengths() {
    #expect(UserID([]) == nil)
    #expect(UserID([1]) != nil)
    #expect(UserID([UInt8](repeating: 1, count: 255)) != nil)
    #expect(UserID([UInt8](repeating: 1, count: 256)) == nil)
    #expect(UserID([1, 0, 1]) == nil)
  }

  // MARK: What is received

  /// Replies with what is behind them, and what comes of them, however they are cut.
  private static let replies: [(String, SOCKS4Handshake.Action, String)] = [
    ("00 5A 0050 C0000201", .established, ""),
    ("00 5A 0000 00000000 BEEF00", .established, "BEEF00"),
    ("00 5A FFFF FFFFFFFF 00", .established, "00"),
    ("00 5A 0050 C00002", .receive, ""), ("00 5A", .receive, ""), ("00", .receive, ""),
    ("", .receive, ""),
    ("00 5B", .failed(.refusedBySOCKS4(.rejected)), ""),
    ("00 5B 0000 00000000", .failed(.refusedBySOCKS4(.rejected)), ""),
    ("00 5C", .failed(.refusedBySOCKS4(.noIdentity)), ""),
    ("00 5D AA", .failed(.refusedBySOCKS4(.otherIdentity)), ""),
    ("00 00", .failed(.refusedBySOCKS4(.other(0))), ""),
    ("00 FF", .failed(.refusedBySOCKS4(.other(255))), ""),
    ("04 5A 0050 C0000201", .failed(.protocolViolation(.wrongReplyVersion(4))), ""),
    ("05 00", .failed(.protocolViolation(.wrongReplyVersion(5))), ""),
    ("48", .failed(.protocolViolation(.wrongReplyVersion(0x48))), ""),
  ]

  @Test(arguments: replies)
  func reply(_ reply: String, _ action: SOCKS4Handshake.Action, _ rest: String) throws {
    for pieces in fragmentations(of: hex(reply)) {
      let client = try SOCKS4Client(to: Self.target, nil, false)
      let (end, left) = outcome(of: client, pieces: pieces)
      #expect(end == action)
      #expect(left == hex(rest))
    }
  }

  @Test func endInPlaceOfAReply() throws {
    for beginning in ["", "00", "00 5A 0000"] {
      var client = try SOCKS4Client(to: Self.target, nil, false)
      #expect(client.receive(hex(beginning)) == (hex(beginning).count, .receive))
      #expect(client.receiveEnd() == .closed(.answer))
      #expect(client.receive([0]) == (0, .failed(.closed(.answer))))
    }
    var refused = try SOCKS4Client(to: Self.target, nil, false)
    _ = refused.receive([0, 0x5B])
    #expect(refused.receiveEnd() == .refusedBySOCKS4(.rejected))
  }

  @Test func codes() {
    for rawValue in UInt8.min...UInt8.max {
      let code = SOCKS4ReplyCode(rawValue: rawValue)
      #expect(code.rawValue == rawValue)
      let isIdentity = rawValue == 0x5C || rawValue == 0x5D
      #expect((code.replyCode == nil) == isIdentity)
      #expect((code.replyCode == .succeeded) == (rawValue == 0x5A))
    }
  }

  // MARK: Random input

  /// Every code by every version, with random bytes behind, cut at random.
  @Test(arguments: 0..<4 as Range<UInt64>)
  func piecesMakeNoDifference(seed: UInt64) throws {
    var generator = SplitMix(seed: seed)
    var established = 0
    for _ in 0..<5_000 {
      let start: [UInt8] = [
        Int.random(in: 0..<8, using: &generator) == 0 ? telling(using: &generator) : 0,
        UInt8.random(in: 0x58...0x5F, using: &generator),
      ]
      let count = Int.random(in: 0...12, using: &generator)
      let bytes = start + (0..<count).map { _ in telling(using: &generator) }
      let client = try SOCKS4Client(to: Self.target, nil, true)
      let (action, rest) = outcome(of: client, pieces: randomPieces(of: bytes, using: &generator))
      switch (bytes[0], bytes[1]) {
      case (0, 0x5A) where bytes.count >= 8:
        #expect(action == .established)
        #expect(rest == Array(bytes[8...]))
        established += 1
      case (0, 0x5A): #expect(action == .receive)
      case (0, let code):
        #expect(action == .failed(.refusedBySOCKS4(SOCKS4ReplyCode(rawValue: code))))
      case (let version, _):
        #expect(action == .failed(.protocolViolation(.wrongReplyVersion(version))))
      }
    }
    #expect(established > 100)
  }
}

/// A machine with all that it has written.
private struct SOCKS4Client {
  private var machine: SOCKS4Handshake
  private(set) var sent: [UInt8] = []

  init(
    to destination: Endpoint, _ user: UserID?, _ takesNames: Bool
  ) throws(HandshakeFailure) {
    machine = try SOCKS4Handshake(destination: destination, user: user, takesNames: takesNames)
    sent.append(addingCapacity: SOCKS4Handshake.maximumOutputBytes) { machine.start(into: &$0) }
  }

  mutating func receive(_ piece: [UInt8]) -> (consumed: Int, action: SOCKS4Handshake.Action) {
    machine.receive(piece.span)
  }

  mutating func receiveEnd() -> HandshakeFailure { machine.receiveEnd() }
}

/// Feeds the pieces one after the other, until the machine ends or there are no more: how it ends, and
/// what an established connection leaves to the application.
private func outcome(
  of start: SOCKS4Client, pieces: [[UInt8]]
) -> (action: SOCKS4Handshake.Action, rest: [UInt8]) {
  var client = start
  for (index, piece) in pieces.enumerated() {
    let (consumed, action) = client.receive(piece)
    precondition((0...piece.count).contains(consumed), "took bytes that are not there")
    precondition(action != .receive || consumed == piece.count, "left bytes and asked for more")
    guard action != .receive else { continue }
    precondition(client.receive([0, 0x5A]) == (0, action), "did not repeat how it ended")
    let rest = action == .established ? Array(pieces[index...].joined().dropFirst(consumed)) : []
    return (action, rest)
  }
  return (.receive, [])
}
