import Addressing
import SOCKS
import Testing

/// BIND on the server's side, by both protocols, and several users.
struct ServerBindTests {
  private static let listening = SocketAddress(.v4(IPv4Address(bits: 0xC633_6401)), 0x0438)
  private static let peer = SocketAddress(.v4(IPv4Address(bits: 0xC000_0201)), 0x1F90)

  private static let requests: [(String, Endpoint, [String])] = [
    (
      "05 01 00  05 02 00 01 C0000201 0050", endpoint("192.0.2.1:80"),
      ["05 00", "05 00 00 01 C6336401 0438", "05 00 00 01 C0000201 1F90"]
    ),
    (
      "05 01 00  05 02 00 03 01 78 0000", endpoint("x:0"),
      ["05 00", "05 00 00 01 C6336401 0438", "05 00 00 01 C0000201 1F90"]
    ),
    (
      "05 01 00  05 02 00 04 00000000000000000000000000000000 0000", endpoint("[::]:0"),
      ["05 00", "05 00 00 01 C6336401 0438", "05 00 00 01 C0000201 1F90"]
    ),
    (
      "04 02 0050 C0000201 00", endpoint("192.0.2.1:80"),
      ["", "00 5A 0438 C6336401", "00 5A 1F90 C0000201"]
    ),
    (
      "04 02 0000 00000001 6D65 00 78 00", endpoint("x:0"),
      ["", "00 5A 0438 C6336401", "00 5A 1F90 C0000201"]
    ),
  ]

  @Test(arguments: requests)
  func bothReplies(_ request: String, _ peer: Endpoint, _ answers: [String]) {
    for pieces in fragmentations(of: hex(request + "BEEF")) {
      let end = outcome(of: Server(nil, listens: true), pieces: pieces)
      #expect(end.action == .bind(peer))
      #expect(end.sent == hex(answers[0]))
      #expect(end.rest == hex("BEEF"))
    }
    var server = Server(nil, listens: true)
    _ = server.receive(hex(request))
    server.reply(.succeeded, bound: Self.listening)
    #expect(server.sent == hex(answers[0] + answers[1]))
    #expect(server.receive([1]) == (0, .bind(peer)))
    server.reply(.succeeded, bound: Self.peer)
    #expect(server.sent == hex(answers.joined()))
    #expect(server.rejection == nil)
    #expect(server.receive([1]) == (0, .bind(peer)))
  }

  /// Nobody comes, or nothing can be listened on.
  @Test(arguments: [true, false])
  func refusal(hasListened: Bool) {
    for (request, code) in [
      ("05 01 00  05 02 00 01 C0000201 0050", "05 06 00 01 00000000 0000"),
      ("04 02 0050 C0000201 00", "00 5B 0000 00000000"),
    ] {
      var server = Server(nil, listens: true)
      _ = server.receive(hex(request))
      if hasListened { server.reply(.succeeded, bound: Self.listening) }
      let before = server.sent
      server.reply(.ttlExpired, bound: noAddress)
      #expect(server.sent == before + hex(code))
      #expect(server.rejection == .refused(.ttlExpired))
      #expect(server.receive([1]) == (0, .reject))
    }
  }

  @Test func longestHandshakeFillsItsOutput() {
    var server = Server(credentials("u", "p"), listens: true)
    _ = server.receive(hex("05 01 02  01 01 75 01 70  05 02 00 01 C0000201 0050"))
    for _ in 0..<2 { server.reply(.succeeded, bound: SocketAddress(.v6(.loopback), 1)) }
    #expect(server.sent.count == ServerHandshake.maximumOutputBytes)
  }

  @Test(arguments: [
    ("05 01 00  05 02 00 01 C0000201 0050", "05 00  05 07 00 01 00000000 0000"),
    ("04 02 0050 C0000201 00", "00 5B 0000 00000000"),
  ])
  func notOffered(_ request: String, _ answer: String) {
    for pieces in fragmentations(of: hex(request)) {
      let end = outcome(of: Server(nil), pieces: pieces)
      #expect(end.rejection == .commandNotSupported(.bind))
      #expect(end.sent == hex(answer))
    }
  }

  @Test(arguments: ["05 01 00  05 02 00 03 00 0050", "04 02 0050 00000001 00 00"])
  func invalidName(_ request: String) {
    let end = outcome(of: Server(nil, listens: true), pieces: [hex(request)])
    #expect(end.rejection == .protocolViolation(.invalidName))
  }

  // MARK: Users

  @Test(arguments: [
    ("01 61 01 31", true), ("02 6262 02 3232", true), ("01 63 01 33", true),
    // One's name with another's password.
    ("01 61 02 3232", false), ("02 6262 01 31", false), ("01 64 01 31", false), ("00 00", false),
  ])
  func severalUsers(_ attempt: String, _ isAccepted: Bool) {
    let logins = Logins([
      credentials("a", "1"), credentials("bb", "22"), credentials("c", "3"),
    ])
    for pieces in fragmentations(of: hex("05 01 02  01" + attempt)) {
      let end = outcome(of: Server(logins: logins), pieces: pieces)
      #expect(end.sent == hex("05 02 01") + [isAccepted ? 0 : 1])
      #expect(end.rejection == (isAccepted ? nil : .wrongCredentials))
    }
  }

  @Test func noUsers() {
    #expect(Logins([]) == nil)
  }
}
