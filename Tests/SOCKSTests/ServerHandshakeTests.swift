import Addressing
import SOCKS
import Testing

struct ServerHandshakeTests {
  private let login = credentials("user", "pw")

  // MARK: Acceptance

  @Test func withoutAuthentication() {
    var server = Server(nil)
    #expect(server.receive(hex("05 01 00")) == (3, .receive))
    #expect(server.sent == hex("05 00"))
    #expect(
      server.receive(hex("05 01 00 01 C0000201 0050"))
        == (10, .connect(endpoint("192.0.2.1:80"))))
    server.reply(.succeeded, bound: noAddress)
    #expect(server.sent == hex("05 00  05 00 00 01 00000000 0000"))
    #expect(server.rejection == nil)
  }

  @Test func withAuthentication() {
    var server = Server(login)
    #expect(server.receive(hex("05 02 00 02")) == (4, .receive))
    #expect(server.sent == hex("05 02"))
    #expect(server.receive(hex("01 04 75736572 02 7077")) == (9, .receive))
    #expect(server.sent == hex("05 02  01 00"))
    #expect(
      server.receive(hex("05 01 00 03 01 78 0001")) == (8, .connect(endpoint("x:1"))))
  }

  @Test(arguments: [
    ("192.0.2.1:80", "01 C0000201 0050"),
    ("[2001:db8::1]:443", "04 20010DB8000000000000000000000001 01BB"),
  ])
  func boundAddress(_ bound: String, _ field: String) throws {
    var server = Server(nil)
    _ = server.receive(hex("05 01 00  05 01 00 01 C0000201 0050"))
    server.reply(.succeeded, bound: try #require(SocketAddress(bound)))
    #expect(server.sent == hex("05 00  05 00 00" + field))
  }

  @Test func everyReplyCode() {
    for rawValue in UInt8.min...UInt8.max {
      let code = ReplyCode(rawValue: rawValue)
      var server = Server(nil)
      _ = server.receive(hex("05 01 00  05 01 00 01 C0000201 0050"))
      server.reply(code, bound: noAddress)
      #expect(server.sent == hex("05 00 05") + [rawValue] + hex("00 01 00000000 0000"))
      #expect(server.rejection == (rawValue == 0 ? nil : .refused(code)))
      let action =
        rawValue == 0 ? .connect(endpoint("192.0.2.1:80")) : ServerHandshake.Action.reject
      #expect(server.receive([1]) == (0, action))
    }
  }

  // MARK: Datagrams

  @Test(arguments: [
    ("01 00000000 0000", "0.0.0.0:0"),
    ("04 00000000000000000000000000000000 0000", "[::]:0"),
    ("01 C0000201 1234", "192.0.2.1:4660"),
    ("03 01 78 0001", "x:1"),
    // What cannot be an address says as little as zeros.
    ("03 00 1234", "0.0.0.0:0"),
    ("03 01 00 1234", "0.0.0.0:0"),
  ])
  func association(_ field: String, _ client: String) {
    let request = hex("05 01 00  05 03 00" + field)
    for pieces in fragmentations(of: request) {
      let end = outcome(of: Server(nil, relaysDatagrams: true), pieces: pieces)
      #expect(end.action == .associate(endpoint(client)))
      #expect(end.sent == hex("05 00"))
    }
    var server = Server(nil, relaysDatagrams: true)
    _ = server.receive(request)
    server.reply(.succeeded, bound: SocketAddress(.v6(.loopback), 0x0438))
    #expect(
      server.sent == hex("05 00  05 00 00 04 00000000000000000000000000000001 0438"))
    #expect(server.rejection == nil)
    #expect(server.receive([1]) == (0, .associate(endpoint(client))))
  }

  @Test func refusedAssociation() {
    var server = Server(nil, relaysDatagrams: true)
    _ = server.receive(hex("05 01 00  05 03 00 01 00000000 0000"))
    server.reply(.generalFailure, bound: noAddress)
    #expect(server.sent == hex("05 00  05 01 00 01 00000000 0000"))
    #expect(server.rejection == .refused(.generalFailure))
    #expect(server.receive([1]) == (0, .reject))
  }

  @Test func otherCommandsWithDatagrams() {
    for rawValue in UInt8.min...UInt8.max {
      let request = hex("05 01 00  05") + [rawValue] + hex("00 01 C0000201 0050")
      let end = outcome(of: Server(nil, relaysDatagrams: true), pieces: [request])
      switch rawValue {
      case 1: #expect(end.action == .connect(endpoint("192.0.2.1:80")))
      case 3: #expect(end.action == .associate(endpoint("192.0.2.1:80")))
      default: #expect(end.rejection == .commandNotSupported(Command(rawValue: rawValue)))
      }
    }
  }

  // MARK: Fragments

  private static let transcripts: [(Credentials?, [UInt8])] =
    destinations.flatMap { destination in
      logins.map { login in
        (login, Client(to: destination, login, .pipelined).sent + hex("47 45 54"))
      }
    }

  @Test(arguments: transcripts)
  func everyFragmentationOfAPipelinedClient(_ login: Credentials?, _ bytes: [UInt8]) {
    let whole = outcome(of: Server(login), pieces: [bytes])
    guard case .connect = whole.action else {
      Issue.record("rejected: \(whole)")
      return
    }
    #expect(whole.rest == hex("47 45 54"))
    for pieces in fragmentations(of: bytes) {
      #expect(outcome(of: Server(login), pieces: pieces) == whole)
    }
  }

  // MARK: Rejection

  private static let rejections: [(Credentials?, String, String, Rejection)] = [
    (nil, "03", "", .protocolViolation(.wrongVersion(3))),
    (nil, "47", "", .protocolViolation(.wrongVersion(0x47))),
    (nil, "05 00", "05 FF", .noAcceptableMethod),
    (nil, "05 01 02", "05 FF", .noAcceptableMethod),
    (nil, "05 02 01 FF", "05 FF", .noAcceptableMethod),
    (logins[1], "05 01 00", "05 FF", .noAcceptableMethod),
    (
      logins[1], "05 01 02 05", "05 02 01 01",
      .protocolViolation(.wrongAuthenticationVersion(5))
    ),
    (nil, "05 01 00 04", "05 00", .protocolViolation(.wrongVersion(4))),
    (
      nil, "05 01 00 05 02 00 01 C0000201 0050", "05 00 05 07 00 01 00000000 0000",
      .commandNotSupported(.bind)
    ),
    (
      nil, "05 01 00 05 03 00 01 C0000201 0050", "05 00 05 07 00 01 00000000 0000",
      .commandNotSupported(.udpAssociate)
    ),
    (
      nil, "05 01 00 05 F0 00 03 00 0050", "05 00 05 07 00 01 00000000 0000",
      .commandNotSupported(.other(0xF0))
    ),
    (
      nil, "05 01 00 05 01 00 02", "05 00 05 08 00 01 00000000 0000",
      .protocolViolation(.unknownAddressType(2))
    ),
    (
      nil, "05 01 00 05 01 00 03 00 0050", "05 00 05 04 00 01 00000000 0000",
      .protocolViolation(.invalidName)
    ),
    (
      nil, "05 01 00 05 01 00 03 03 780079 0050", "05 00 05 04 00 01 00000000 0000",
      .protocolViolation(.invalidName)
    ),
    (
      nil, "05 01 00 05 01 00 03 02 C328 0050", "05 00 05 04 00 01 00000000 0000",
      .protocolViolation(.invalidName)
    ),
  ]

  @Test(arguments: rejections)
  func rejection(_ login: Credentials?, _ bytes: String, _ answer: String, _ expected: Rejection) {
    for pieces in fragmentations(of: hex(bytes)) {
      let end = outcome(of: Server(login), pieces: pieces)
      #expect(end.action == .reject)
      #expect(end.sent == hex(answer))
      #expect(end.rejection == expected)
    }
  }

  @Test(arguments: [
    "04 75736572 02 7078", "04 75736573 02 7077", "04 75736572 01 70", "04 75736572 03 707777",
    "03 757365 02 7077", "05 7573657272 02 7077", "00 00", "04 75736572 00", "00 02 7077",
    "02 7077 04 75736572",
  ])
  func wrongCredentials(_ fields: String) {
    for pieces in fragmentations(of: hex("05 01 02 01" + fields)) {
      let end = outcome(of: Server(login), pieces: pieces)
      #expect(end.rejection == .wrongCredentials)
      #expect(end.sent == hex("05 02 01 01"))
    }
  }

  @Test func offersAreReadToTheirEnd() {
    let methods = [UInt8](repeating: 0x80, count: 254) + [0x02]
    let end = outcome(of: Server(login), pieces: [hex("05 FF") + methods])
    #expect(end.action == .receive)
    #expect(end.sent == hex("05 02"))
  }
}
