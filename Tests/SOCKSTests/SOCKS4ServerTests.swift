import Addressing
import SOCKS
import TestSupport
import Testing

/// The server's side of SOCKS4 and SOCKS4a, on the port where it speaks SOCKS5.
struct SOCKS4ServerTests {
  private static let longest = String(repeating: "n", count: 255)

  // MARK: Acceptance

  private static let requests: [(String, String)] = [
    ("04 01 0050 C0000201 00", "192.0.2.1:80"),
    ("04 01 FFFF FFFFFFFF 6D65 00", "255.255.255.255:65535"),
    ("04 01 0000 00000000 00", "0.0.0.0:0"),
    ("04 01 0001 00000100 00", "0.0.1.0:1"),
    ("04 01 1F90 00000001 00 6578616D706C652E636F6D 00", "example.com:8080"),
    ("04 01 0001 000000FF 6D65 00 78 00", "x:1"),
    ("04 01 0001 00000001" + String(repeating: "75", count: 255) + "00 78 00", "x:1"),
    ("04 01 0001 00000001 00" + String(repeating: "6E", count: 255) + "00", longest + ":1"),
  ]

  @Test(arguments: requests)
  func request(_ request: String, _ destination: String) {
    for pieces in fragmentations(of: hex(request + "00 47")) {
      let end = outcome(of: Server(nil), pieces: pieces)
      #expect(end.action == .connect(endpoint(destination)))
      #expect(end.sent == [])
      #expect(end.rest == hex("00 47"))
    }
  }

  @Test func longestRequest() {
    let field = [UInt8](repeating: 0x6E, count: 255) + [0]
    let request = hex("04 01 0050 00000001") + field + field
    #expect(
      outcome(of: Server(nil), pieces: [request]).action
        == .connect(endpoint(Self.longest + ":80")))
    for count in request.indices {
      #expect(outcome(of: Server(nil), pieces: [Array(request[..<count])]).action == .receive)
    }
  }

  @Test(arguments: [
    ("192.0.2.1:80", "0050 C0000201"),
    // There is no room for IPv6.
    ("[2001:db8::1]:443", "01BB 00000000"),
  ])
  func everyReplyCode(_ bound: String, _ field: String) throws {
    let bound = try #require(SocketAddress(bound))
    for rawValue in UInt8.min...UInt8.max {
      let code = ReplyCode(rawValue: rawValue)
      var server = Server(nil)
      _ = server.receive(hex("04 01 0050 C0000201 00"))
      server.reply(code, bound: bound)
      #expect(server.sent == hex("00" + (rawValue == 0 ? "5A" : "5B") + field))
      #expect(server.rejection == (rawValue == 0 ? nil : .refused(code)))
    }
  }

  /// Both directions against our own client.
  @Test(arguments: destinations, [nil, UserID("me".utf8)])
  func client(_ destination: Endpoint, _ user: UserID?) throws {
    guard
      var client = try? SOCKS4Handshake(destination: destination, user: user, takesNames: true)
    else {
      // Only what has no IPv4 address and no name cannot be asked for.
      guard case .address(let address) = destination, !address.address.isIPv4 else {
        Issue.record("\(destination) cannot be named")
        return
      }
      return
    }
    var request: [UInt8] = []
    request.append(addingCapacity: SOCKS4Handshake.maximumOutputBytes) { client.start(into: &$0) }
    var server = Server(nil)
    #expect(server.receive(request) == (request.count, .connect(destination)))
    server.reply(.succeeded, bound: noAddress)
    #expect(client.receive(server.sent.span) == (8, .established))
  }

  // MARK: Rejection

  private static let refusal = "00 5B 0000 00000000"

  private static let rejections: [(Credentials?, String, Rejection)] = [
    (logins[1], "04 01 0050 C0000201 00", .noAcceptableMethod),
    (logins[1], "04 01 0050 00000001 75 00 78 00", .noAcceptableMethod),
    (nil, "04 03 0050 C0000201 00", .commandNotSupported(.udpAssociate)),
    (nil, "04 F0 0050 00000001 00 78 00", .commandNotSupported(.other(0xF0))),
    (nil, "04 01 0050 00000001 00 00", .protocolViolation(.invalidName)),
    (nil, "04 01 0050 00000001 00 20 00", .protocolViolation(.invalidName)),
    (nil, "04 01 0050 00000001 00 C328 00", .protocolViolation(.invalidName)),
    (
      nil, "04 01 0050 00000001 00" + String(repeating: "6E", count: 256),
      .protocolViolation(.invalidName)
    ),
    (
      nil, "04 01 0050 C0000201" + String(repeating: "75", count: 256),
      .protocolViolation(.userIDTooLong)
    ),
  ]

  @Test(arguments: rejections)
  func rejection(_ login: Credentials?, _ bytes: String, _ expected: Rejection) {
    for pieces in fragmentations(of: hex(bytes)) {
      let end = outcome(of: Server(login), pieces: pieces)
      #expect(end.action == .reject)
      #expect(end.sent == hex(Self.refusal))
      #expect(end.rejection == expected)
    }
  }

  // MARK: Random input

  @Test(arguments: 0..<4 as Range<UInt64>)
  func piecesMakeNoDifference(seed: UInt64) {
    var generator = SplitMix(seed: 300 + seed)
    var (connected, listening) = (0, 0)
    for _ in 0..<5_000 {
      let command = Bool.random(using: &generator) ? "01" : "02"
      let name = Bool.random(using: &generator) ? "C0000201 6D65 00" : "00000001 00 78 00"
      let bytes = mutated(hex("04" + command + "0050" + name + "00 05 01"), using: &generator)
      let login = Int.random(in: 0..<8, using: &generator) == 0 ? logins[1] : nil
      let server = Server(login, listens: true)
      let whole = outcome(of: server, pieces: [bytes])
      let cut = randomPieces(of: bytes, using: &generator)
      #expect(outcome(of: server, pieces: cut) == whole)
      switch whole.action {
      case .connect: connected += 1
      case .bind: listening += 1
      case .associate, .receive, .reject: break
      }
    }
    #expect(connected > 250)
    #expect(listening > 250)
  }
}
