import Addressing
import SOCKS
import TestSupport
import Testing

/// HTTP CONNECT, from the request to the tunnel.
struct TunnelHandshakeTests {
  private static let target = endpoint("192.0.2.1:80")

  // MARK: What is sent

  @Test(arguments: [
    ("192.0.2.1:80", "192.0.2.1:80"), ("[2001:db8::1]:443", "[2001:db8::1]:443"),
    ("example.com:8080", "example.com:8080"), ("[::]:0", "[::]:0"),
  ])
  func request(_ destination: String, _ target: String) throws {
    let tunnel = try Tunnel(to: endpoint(destination), nil)
    #expect(text(tunnel.sent) == "CONNECT \(target) HTTP/1.1\r\nHost: \(target)\r\n\r\n")
  }

  /// RFC 4648, section 10, and RFC 7617, section 2.
  @Test(arguments: [
    ("Aladdin", "open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), ("f", "o", "Zjpv"),
    ("f", "oo", "Zjpvbw=="), ("fo", "oo", "Zm86b28="),
    ("test", "123£", "dGVzdDoxMjPCow=="), ("~~", "??>", "fn46Pz8+"), ("??", "??", "Pz86Pz8="),
    ("?", "???", "Pzo/Pz8="),
  ])
  func basicCredentials(_ user: String, _ password: String, _ expected: String) throws {
    let tunnel = try Tunnel(to: Self.target, credentials(user, password))
    #expect(
      text(tunnel.sent)
        == "CONNECT 192.0.2.1:80 HTTP/1.1\r\nHost: 192.0.2.1:80\r\n"
        + "Proxy-Authorization: Basic \(expected)\r\n\r\n")
  }

  @Test func longestRequestFillsItsOutput() throws {
    let name = endpoint(String(repeating: "n", count: 255) + ":65535")
    let tunnel = try Tunnel(to: name, logins[3])
    #expect(tunnel.sent.count == TunnelHandshake.maximumOutputBytes)
  }

  /// What would be something else in a request line is never sent.
  @Test(arguments: ["a/b:1", "a@b:1", "ü:1", "a%0d:1", "a?b:1", "a#b:1", "a\\b:1", "a\"b:1"])
  func namesThatNoRequestCarries(_ destination: String) {
    #expect(throws: HandshakeFailure.destinationNotSupported) {
      try Tunnel(to: endpoint(destination), nil)
    }
  }

  // MARK: What is received

  /// Responses with what is behind them, and what comes of them, however they are cut.
  private static let conversations: [(String, TunnelHandshake.Action, String)] = [
    ("HTTP/1.1 200 Connection established\r\n\r\n", .established, ""),
    ("HTTP/1.0 200 OK\r\n\r\n220 banner\r\n\r\n", .established, "220 banner\r\n\r\n"),
    ("HTTP/1.1 200\r\n\r\nx", .established, "x"), ("HTTP/1.1 200 \r\n\r\nx", .established, "x"),
    ("HTTP/1.1 200\n\nx", .established, "x"), ("HTTP/1.1 200 OK\n\r\n\n", .established, "\n"),
    ("HTTP/1.1 204 No Content\r\nVia: a\r\nX:\r\n\r\n", .established, ""),
    ("HTTP/1.1 299 \r\nContent-Length: 5\r\n\r\nhello", .established, "hello"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", .established, "0\r\n\r\n"),
    ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx", .established, "x"),
    ("HTTP/1.1 100\r\nA: b\r\n\r\nHTTP/1.1 103 \n\nHTTP/1.0 200 OK\r\n\r\n", .established, ""),
    ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 502 Bad\r\n", .failed(.refusedByHTTP(.init(502))), ""),
    ("HTTP/1.1 407 Proxy Auth\r\n\r\n", .failed(.refusedByHTTP(HTTPStatus(407))), ""),
    ("HTTP/1.1 403 Forbidden\r\n\r\n", .failed(.refusedByHTTP(HTTPStatus(403))), ""),
    ("HTTP/1.1 502\r", .failed(.refusedByHTTP(HTTPStatus(502))), ""),
    ("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", .failed(.refusedByHTTP(HTTPStatus(302))), ""),
    ("HTTP/1.1 000 \r\n\r\n", .failed(.refusedByHTTP(HTTPStatus(0))), ""),
    ("HTTP/1.1 999 \r\n\r\n", .failed(.refusedByHTTP(HTTPStatus(999))), ""),
    ("HTTP/1.1 200 OK\r\nVia: a\r\n", .receive, ""), ("HTTP/1.1 200", .receive, ""),
    ("", .receive, ""), ("HTTP/1.1 407", .receive, ""),
    ("HTTP/2.0 200 OK\r\n\r\n", violation("2"), ""), ("HTTP/1.x 200", violation("x"), ""),
    ("http/1.1 200 OK\r\n\r\n", violation("h"), ""), ("HTTP/1.1  200", violation(" "), ""),
    ("HTTP/1.1 2000 OK", violation("0"), ""), ("HTTP/1.1 20 OK", violation(" "), ""),
    ("HTTP/1.d 200", violation("d"), ""), ("HTTP/1.1 s", violation("s"), ""),
    ("HTTP/1.1 200\tOK", violation("\t"), ""), ("\r\nHTTP/1.1 200", violation("\r"), ""),
    ("SSH-2.0-x\r\n", violation("S"), ""), ("\u{5}\u{0}", violation("\u{5}"), ""),
  ]

  private static func violation(_ character: Unicode.Scalar) -> TunnelHandshake.Action {
    .failed(.protocolViolation(.notHTTP(UInt8(ascii: character))))
  }

  @Test(arguments: conversations)
  func responses(_ response: String, _ action: TunnelHandshake.Action, _ rest: String) throws {
    let bytes = Array(response.utf8)
    for pieces in fragmentations(of: bytes) {
      let end = outcome(of: try Tunnel(to: Self.target, nil), pieces: pieces)
      #expect(end.action == action)
      #expect(text(end.rest) == rest)
    }
  }

  private static let limit = TunnelHandshake.maximumResponseBytes

  /// A response as long as one may be, and one that is longer by a byte; the tunnel's bytes do not count.
  @Test func longestResponse() throws {
    let head = "HTTP/1.1 200 OK\r\nX: "
    let filler = String(repeating: "x", count: Self.limit - head.utf8.count - 4)
    for piece in [1, 7, 4096, Self.limit * 2] {
      let fitting = Array((head + filler + "\r\n\r\n" + "tunnel").utf8)
      let established = outcome(
        of: try Tunnel(to: Self.target, nil), pieces: pieces(of: fitting, by: piece))
      #expect(established.action == .established)
      #expect(text(established.rest) == "tunnel")
      let tooLong = Array((head + "x" + filler + "\r\n\r\n").utf8)
      #expect(
        outcome(of: try Tunnel(to: Self.target, nil), pieces: pieces(of: tooLong, by: piece)).action
          == .failed(.protocolViolation(.responseTooLong)))
    }
  }

  /// Informational responses count together.
  @Test func endlessInformationalResponses() throws {
    let one = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)
    let pieces = Array(repeating: one, count: Self.limit / one.count + 1)
    #expect(
      outcome(of: try Tunnel(to: Self.target, nil), pieces: pieces).action
        == .failed(.protocolViolation(.responseTooLong)))
  }

  @Test func endInPlaceOfAResponse() throws {
    for beginning in ["", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nA: b\r\n"] {
      var tunnel = try Tunnel(to: Self.target, nil)
      #expect(tunnel.receive(Array(beginning.utf8)) == (beginning.utf8.count, .receive))
      #expect(tunnel.receiveEnd() == .closed(.answer))
      #expect(tunnel.receive([0x48]) == (0, .failed(.closed(.answer))))
    }
    var refused = try Tunnel(to: Self.target, nil)
    _ = refused.receive(Array("HTTP/1.1 403 ".utf8))
    #expect(refused.receiveEnd() == .refusedByHTTP(HTTPStatus(403)))
  }

  // MARK: Random input

  /// Random damage, cut at random: the pieces make no difference, and the end is the model's.
  @Test(arguments: 0..<4 as Range<UInt64>)
  func agreesWithItsModel(seed: UInt64) throws {
    var generator = SplitMix(seed: seed)
    var established = 0
    for _ in 0..<5_000 {
      let response = try #require(Self.conversations.randomElement(using: &generator)).0
      let bytes = mutated(Array(response.utf8), using: &generator) { generator in
        Array("\r\n\r\n 0129HTP/.:x\u{0}".utf8).randomElement(using: &generator) ?? 0
      }
      let whole = outcome(of: try Tunnel(to: Self.target, nil), pieces: [bytes])
      let cut = randomPieces(of: bytes, using: &generator)
      #expect(outcome(of: try Tunnel(to: Self.target, nil), pieces: cut) == whole)
      #expect(isEstablished(bytes) == (whole.action == .established))
      if whole.action == .established { established += 1 }
    }
    // The comparison would be worth little if nearly all responses failed.
    #expect(established > 250)
  }

  /// Whether the bytes hold a tunnel's beginning, found out line by line.
  private func isEstablished(_ bytes: [UInt8]) -> Bool {
    var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .map { line in line.filter { $0 != UInt8(ascii: "\r") } }
    // Behind the last line feed there is no line yet.
    lines.removeLast()
    var raw = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)[...]
    while let line = lines.first {
      let first = Array(raw.removeFirst())
      guard first.count >= 12, first.starts(with: Array("HTTP/1.".utf8)), digit(first[7]),
        first[8] == UInt8(ascii: " "), first[9...11].allSatisfy(digit),
        first.count == 12 || first[12] == UInt8(ascii: " ") || first[12] == UInt8(ascii: "\r")
      else { return false }
      lines.removeFirst()
      guard let end = lines.firstIndex(of: []) else { return false }
      lines.removeFirst(end + 1)
      raw.removeFirst(end + 1)
      switch line[9] {
      case UInt8(ascii: "2"): return true
      case UInt8(ascii: "1"): continue
      default: return false
      }
    }
    return false
  }

  private func digit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }
}

private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

private func pieces(of bytes: [UInt8], by count: Int) -> [[UInt8]] {
  stride(from: 0, to: bytes.count, by: count).map {
    Array(bytes[$0..<min($0 + count, bytes.count)])
  }
}

/// A machine with all that it has written.
private struct Tunnel {
  private var machine: TunnelHandshake
  private(set) var sent: [UInt8] = []

  init(to destination: Endpoint, _ credentials: Credentials?) throws(HandshakeFailure) {
    machine = try TunnelHandshake(destination: destination, credentials: credentials)
    sent.append(addingCapacity: TunnelHandshake.maximumOutputBytes) { machine.start(into: &$0) }
  }

  mutating func receive(_ piece: [UInt8]) -> (consumed: Int, action: TunnelHandshake.Action) {
    machine.receive(piece.span)
  }

  mutating func receiveEnd() -> HandshakeFailure { machine.receiveEnd() }
}

/// What came of feeding a machine with some bytes.
private struct TunnelOutcome: Hashable {
  var action: TunnelHandshake.Action
  var rest: [UInt8] = []
}

/// Feeds the pieces one after the other, until the machine ends or there are no more.
private func outcome(of start: Tunnel, pieces: [[UInt8]]) -> TunnelOutcome {
  var tunnel = start
  for (index, piece) in pieces.enumerated() {
    let (consumed, action) = tunnel.receive(piece)
    precondition((0...piece.count).contains(consumed), "took bytes that are not there")
    precondition(action != .receive || consumed == piece.count, "left bytes and asked for more")
    guard action != .receive else { continue }
    precondition(tunnel.receive([72]) == (0, action), "did not repeat how it ended")
    let rest = action == .established ? Array(pieces[index...].joined().dropFirst(consumed)) : []
    return TunnelOutcome(action: action, rest: rest)
  }
  return TunnelOutcome(action: .receive)
}
