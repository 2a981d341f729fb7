import Addressing
import SOCKS
import Testing

struct ClientHandshakeTests {
  private let target = endpoint("192.0.2.1:80")
  private let login = credentials("user", "pw")
  private let success = hex("05 00 00 01 00000000 0000")

  // MARK: What is sent

  @Test func greetingOffersWhatCanBeAnswered() {
    #expect(Client(to: target, nil, .stepwise).sent == hex("05 01 00"))
    #expect(Client(to: target, login, .stepwise).sent == hex("05 02 00 02"))
  }

  @Test func pipelinedSendsAllAtOnce() {
    #expect(
      Client(to: target, nil, .pipelined).sent == hex("05 01 00  05 01 00 01 C0000201 0050"))
    #expect(
      Client(to: target, login, .pipelined).sent
        == hex("05 01 02  01 04 75736572 02 7077  05 01 00 01 C0000201 0050"))
  }

  @Test(arguments: [
    ("192.0.2.1:80", "05 01 00 01 C0000201 0050"),
    ("[2001:db8::1]:443", "05 01 00 04 20010DB8000000000000000000000001 01BB"),
    ("example.com:8080", "05 01 00 03 0B 6578616D706C652E636F6D 1F90"),
  ])
  func request(_ destination: String, _ expected: String) {
    var client = Client(to: endpoint(destination), nil, .stepwise)
    #expect(client.receive(hex("05 00")) == (2, .receive))
    #expect(client.sent == hex("05 01 00" + expected))
  }

  @Test func authenticationFollowsItsSelection() {
    var client = Client(to: target, login, .stepwise)
    #expect(client.receive(hex("05 02")) == (2, .receive))
    #expect(client.sent == hex("05 02 00 02  01 04 75736572 02 7077"))
    #expect(client.receive(hex("01 00")) == (2, .receive))
    #expect(client.sent.suffix(10) == hex("05 01 00 01 C0000201 0050"))
  }

  @Test func serverMayNotNeedCredentials() {
    var client = Client(to: target, login, .stepwise)
    #expect(client.receive(hex("05 00")) == (2, .receive))
    #expect(client.sent == hex("05 02 00 02  05 01 00 01 C0000201 0050"))
  }

  @Test func longestHandshakeFillsItsOutput() {
    for mode in [ClientHandshake.Mode.stepwise, .pipelined] {
      let name = endpoint(String(repeating: "n", count: 255) + ":1")
      let start = Client(to: name, logins[3], mode)
      let end = outcome(of: start, pieces: [hex("05 02"), hex("01 00"), success])
      #expect(end.action == .established)
      let greetingBytes = mode == .stepwise ? 4 : 3
      #expect(end.sent.count == greetingBytes + 513 + 262)
    }
    #expect(ClientHandshake.maximumOutputBytes == 4 + 513 + 262)
  }

  @Test func longestAddressFillsItsOutput() {
    let address = endpoint("[2001:db8::1]:65535")
    let open = outcome(of: Client(to: address, nil, .stepwise), pieces: [hex("05 00"), success])
    let login = outcome(
      of: Client(to: address, logins[3], .stepwise), pieces: [hex("05 02"), hex("01 00"), success])
    #expect(open.action == .established && login.action == .established)
    // A greeting without credentials offers one method less.
    #expect(open.sent.count + 1 == ClientHandshake.maximumOutputBytes(for: address, nil))
    #expect(login.sent.count == ClientHandshake.maximumOutputBytes(for: address, logins[3]))
  }

  // MARK: Replies

  private static let boundAddresses: [(String, Endpoint?)] = [
    ("01 C0000201 0438", endpoint("192.0.2.1:1080")),
    ("01 00000000 0000", endpoint("0.0.0.0:0")),
    ("04 20010DB8000000000000000000000001 FFFF", endpoint("[2001:db8::1]:65535")),
    ("04 00000000000000000000000000000000 0000", endpoint("[::]:0")),
    ("03 0B 6578616D706C652E636F6D 1F90", endpoint("example.com:8080")),
    ("03 00 1F90", nil),
    ("03 01 00 1F90", nil),
    ("03 02 C328 1F90", nil),
    (
      "03 FF" + String(repeating: "61", count: 255) + "0001",
      endpoint(String(repeating: "a", count: 255) + ":1")
    ),
  ]

  @Test(arguments: boundAddresses)
  func boundAddress(_ field: String, _ expected: Endpoint?) {
    let reply = hex("05 00 00" + field)
    for pieces in fragmentations(of: reply + hex("01 02")) {
      var client = Client(to: target, nil, .stepwise)
      _ = client.receive(hex("05 00"))
      let end = outcome(of: client, pieces: pieces)
      #expect(end.action == .established)
      #expect(end.boundAddress == expected)
      #expect(end.rest == hex("01 02"))
    }
  }

  /// The port is told even behind a name that is none.
  @Test(arguments: [("01 C0000201 0438", 1080), ("03 00 1F90", 8080), ("03 02 C328 1F90", 8080)])
  func boundPort(_ field: String, _ expected: UInt16) {
    var client = Client(to: target, nil, .stepwise)
    _ = client.receive(hex("05 00"))
    #expect(client.boundPort == 0)
    _ = client.receive(hex("05 00 00" + field))
    #expect(client.boundPort == expected)
  }

  @Test func everyReplyCode() {
    for code in UInt8.min...UInt8.max {
      for reply in [hex("05") + [code], hex("05") + [code] + hex("00 01 00000000 0000")] {
        for pieces in fragmentations(of: reply) {
          var client = Client(to: target, nil, .stepwise)
          _ = client.receive(hex("05 00"))
          let action = outcome(of: client, pieces: pieces).action
          if code == 0 {
            #expect(action == (reply.count == 2 ? .receive : .established))
          } else {
            #expect(action == .failed(.refused(ReplyCode(rawValue: code))))
          }
        }
      }
    }
  }

  @Test func reservedByteIsNotLookedAt() {
    var client = Client(to: target, nil, .stepwise)
    _ = client.receive(hex("05 00"))
    #expect(client.receive(hex("05 00 FF 01 00000000 0000")) == (10, .established))
  }

  // MARK: Fragments

  @Test(arguments: [ClientHandshake.Mode.stepwise, .pipelined])
  func everyMessageInEveryFragmentation(mode: ClientHandshake.Mode) {
    let reply = hex("05 00 00 03 0B 6578616D706C652E636F6D 1F90")
    for login in logins {
      let messages = login == nil ? [hex("05 00"), reply] : [hex("05 02"), hex("01 00"), reply]
      let start = Client(to: target, login, mode)
      let whole = outcome(of: start, pieces: messages)
      #expect(whole.action == .established)
      for (index, message) in messages.enumerated() {
        for pieces in fragmentations(of: message) {
          let cut = Array(messages[..<index]) + pieces + Array(messages[(index + 1)...])
          #expect(outcome(of: start, pieces: cut) == whole)
        }
      }
      let bytes = Array(messages.joined())
      #expect(outcome(of: start, pieces: bytes.map { [$0] }) == whole)
      guard mode == .pipelined else { continue }
      for pieces in fragmentations(of: bytes) {
        #expect(outcome(of: start, pieces: pieces) == whole)
      }
    }
  }

  @Test func nothingReceivedChangesNothing() {
    var client = Client(to: target, nil, .stepwise)
    #expect(client.receive([]) == (0, .receive))
    #expect(client.receive(hex("05 00")) == (2, .receive))
    #expect(client.receive([]) == (0, .receive))
    #expect(client.receive(success) == (10, .established))
  }

  // MARK: Failures

  private static let failures: [(Credentials?, ClientHandshake.Mode, String, HandshakeFailure)] = [
    (nil, .stepwise, "04", .protocolViolation(.wrongVersion(4))),
    (nil, .pipelined, "48", .protocolViolation(.wrongVersion(0x48))),
    (nil, .stepwise, "05 FF", .noAcceptableMethod),
    (logins[1], .stepwise, "05 FF", .noAcceptableMethod),
    (logins[1], .pipelined, "05 FF", .noAcceptableMethod),
    (nil, .stepwise, "05 02", .protocolViolation(.methodNeverOffered(.usernamePassword))),
    (nil, .pipelined, "05 02", .protocolViolation(.methodNeverOffered(.usernamePassword))),
    (logins[1], .stepwise, "05 01", .protocolViolation(.methodNeverOffered(.gssapi))),
    (logins[1], .pipelined, "05 00", .protocolViolation(.methodNeverOffered(.noAuthentication))),
    (logins[1], .stepwise, "05 02|05", .protocolViolation(.wrongAuthenticationVersion(5))),
    (logins[1], .stepwise, "05 02|01 01", .authenticationRejected(status: 1)),
    (logins[1], .pipelined, "05 02 01 FF", .authenticationRejected(status: 255)),
    (nil, .stepwise, "05 00|00", .protocolViolation(.wrongVersion(0))),
    (nil, .stepwise, "05 00|05 00 00 02", .protocolViolation(.unknownAddressType(2))),
    (nil, .stepwise, "05 00|05 00 00 FF", .protocolViolation(.unknownAddressType(255))),
    (nil, .pipelined, "05 00 05 00 00 00", .protocolViolation(.unknownAddressType(0))),
    (nil, .stepwise, "05 00 05", .protocolViolation(.trailingBytes)),
    (logins[1], .stepwise, "05 00 05", .protocolViolation(.trailingBytes)),
    (logins[1], .stepwise, "05 02 01 00", .protocolViolation(.trailingBytes)),
    (logins[1], .stepwise, "05 02|01 00 05", .protocolViolation(.trailingBytes)),
    (nil, .stepwise, "05 FF 00", .noAcceptableMethod),
    (nil, .pipelined, "05 00 05 02 00", .refused(.notAllowed)),
  ]

  @Test(arguments: failures)
  func failure(
    _ login: Credentials?, _ mode: ClientHandshake.Mode, _ pieces: String,
    _ expected: HandshakeFailure
  ) {
    let pieces = pieces.split(separator: "|").map { hex(String($0)) }
    var client = Client(to: target, login, mode)
    for piece in pieces.dropLast() {
      #expect(client.receive(piece) == (piece.count, .receive))
    }
    let before = client.sent
    #expect(outcome(of: client, pieces: [pieces[pieces.count - 1]]).action == .failed(expected))
    _ = client.receive(pieces[pieces.count - 1])
    #expect(client.sent == before, "wrote after a failure")
    #expect(client.receiveEnd() == expected)
  }

  @Test(
    arguments: [
      (nil, "", HandshakePhase.methodSelection),
      (nil, "05", .methodSelection),
      (nil, "05 00|", .reply),
      (nil, "05 00|05", .reply),
      (nil, "05 00|05 00 00 01 00000000 00", .reply),
      (logins[1], "05 02|", .authentication),
      (logins[1], "05 02|01", .authentication),
      (logins[1], "05 02|01 00|", .reply),
    ] as [(Credentials?, String, HandshakePhase)])
  func end(_ login: Credentials?, _ pieces: String, _ expected: HandshakePhase) {
    var client = Client(to: target, login, .stepwise)
    for piece in pieces.split(separator: "|") { _ = client.receive(hex(String(piece))) }
    #expect(client.receiveEnd() == .closed(expected))
    #expect(client.receive(hex("05 00")) == (0, .failed(.closed(expected))))
  }

  @Test func bytesBeforeTheGreetingAreAViolation() {
    var machine = ClientHandshake(destination: target, credentials: nil, mode: .stepwise)
    var sent: [UInt8] = []
    sent.append(addingCapacity: 1) { output in
      let none = machine.receive([UInt8]().span, into: &output)
      #expect(none == (0, .receive))
      let early = machine.receive(hex("05").span, into: &output)
      #expect(early == (0, .failed(.protocolViolation(.trailingBytes))))
    }
    #expect(sent.isEmpty)
  }
}
