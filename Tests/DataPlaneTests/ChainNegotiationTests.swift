import Addressing
import LinuxIO
import SOCKS
import TestSupport
import Testing

@testable import DataPlane

/// The handshakes of a chain, one behind the other on one connection.
struct ChainNegotiationTests {
  /// What a hop is asked, and what it answers.
  private struct Exchange {
    let request: [UInt8]
    let answer: [UInt8]
  }

  private static let destination = Endpoint.address(
    SocketAddress(.v4(IPv4Address(bits: 0xCB00_7107)), 443))

  /// SOCKS5, HTTP by its name, and SOCKS4a by its name.
  private static func chain() throws -> Upstream {
    Upstream(
      at: .address(SocketAddress(.v4(.loopback), 1080)), .socks5(nil),
      before: [
        .init(at: .name(try #require(HostName("b")), port: 8080), .http(nil)),
        .init(at: .name(try #require(HostName("c")), port: 1081), .socks4(nil, takesNames: true)),
      ])
  }

  private static let exchanges = [
    Exchange(request: [5, 1, 0], answer: [5, 0]),
    Exchange(
      request: [5, 1, 0, 3, 1, 0x62, 0x1F, 0x90], answer: [5, 0, 0, 3, 1, 0x78, 0, 80]),
    Exchange(
      request: Array("CONNECT c:1081 HTTP/1.1\r\nHost: c:1081\r\n\r\n".utf8),
      answer: Array("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200\r\nA: b\r\n\r\n".utf8)),
    Exchange(
      request: [4, 1, 1, 187, 203, 0, 113, 7, 0], answer: [0, 90, 0, 0, 0, 0, 0, 0]),
  ]

  private static func start(_ negotiation: Negotiation, _ chain: Upstream) {
    negotiation.startClient(.connect, to: destination, at: chain)
  }

  private static func feed(
    _ bytes: [UInt8], to negotiation: Negotiation
  ) -> (consumed: Int, action: ClientHandshake.Action) {
    bytes.withUnsafeBytes { negotiation.receiveAsClient($0) }
  }

  /// Each hop is asked in its own words for the next one, and only once the former has answered; what is
  /// behind the last answer is left.
  @Test(arguments: 0..<200) func anyPiecesGiveTheSame(seed: UInt64) throws {
    var generator = SplitMix(seed: seed)
    let server = try ScriptedUpstream()
    let socket = try StreamSocket.connect(to: server.address, mark: nil)
    let far = try server.accept()
    let banner = Array("220 ready".utf8)
    let negotiation = Negotiation()
    Self.start(negotiation, try Self.chain())
    var isEstablished = false
    for (index, exchange) in Self.exchanges.enumerated() {
      _ = negotiation.flush(to: socket.rawValue)
      #expect(try far.read(exchange.request.count) == exchange.request)
      #expect(negotiation.hop == max(index - 1, 0))
      let isLast = index == Self.exchanges.count - 1
      // What is behind the end is in one piece with it.
      var pieces = randomPieces(of: exchange.answer, using: &generator)
      if isLast, let last = pieces.popLast() { pieces.append(last + banner) }
      for piece in pieces {
        let (consumed, action) = Self.feed(piece, to: negotiation)
        if case .established = action {
          #expect(isLast && piece.count - consumed == banner.count)
          isEstablished = true
        } else {
          #expect(action == .receive && consumed == piece.count)
        }
      }
    }
    #expect(isEstablished && negotiation.isAtLastHop)
  }

  /// A hop's bytes that come with the answer of the one before, such as a greeting of another protocol,
  /// are the next machine's to judge.
  @Test func bytesBehindAnAnswerAreTheNextHops() throws {
    let server = try ScriptedUpstream()
    let socket = try StreamSocket.connect(to: server.address, mark: nil)
    let negotiation = Negotiation()
    Self.start(negotiation, try Self.chain())
    for exchange in Self.exchanges.prefix(1) {
      _ = negotiation.flush(to: socket.rawValue)
      #expect(Self.feed(exchange.answer, to: negotiation).action == .receive)
    }
    _ = negotiation.flush(to: socket.rawValue)
    let answer = Self.exchanges[1].answer + Array("SSH-2.0".utf8)
    let action = Self.feed(answer, to: negotiation).action
    #expect(action == .failed(.protocolViolation(.notHTTP(UInt8(ascii: "S")))))
    #expect(negotiation.hop == 1)
  }

  /// An answer to what has not been sent yet is none.
  @Test func anAnswerBeforeItsRequestFails() throws {
    let chain = Upstream(
      at: .address(SocketAddress(.v4(.loopback), 8080)), .http(nil),
      before: [.init(at: Self.destination, .http(nil))])
    let negotiation = Negotiation()
    Self.start(negotiation, chain)
    let action = Self.feed(Array("HTTP/1.1 200\r\n\r\n".utf8), to: negotiation).action
    #expect(action == .failed(.protocolViolation(.trailingBytes)))
  }

  /// Whatever the hops send, it ends at a hop of the chain, and a failure stays one.
  @Test(arguments: 0..<500) func hostileAnswersAreHarmless(seed: UInt64) throws {
    var generator = SplitMix(seed: seed)
    let server = try ScriptedUpstream()
    let socket = try StreamSocket.connect(to: server.address, mark: nil)
    let negotiation = Negotiation()
    Self.start(negotiation, try Self.chain())
    for exchange in Self.exchanges {
      if generator.next(below: 8) != 0 { _ = negotiation.flush(to: socket.rawValue) }
      let bytes = mutated(exchange.answer, using: &generator) {
        UInt8(truncatingIfNeeded: $0.next())
      }
      let (consumed, action) = Self.feed(bytes, to: negotiation)
      #expect((0...bytes.count).contains(consumed))
      #expect((0...2).contains(negotiation.hop))
      if case .failed = action {
        #expect(Self.feed([5, 0], to: negotiation).action == action)
        return
      }
    }
  }

  /// The next session finds nothing of the last one.
  @Test func aPooledNegotiationForgetsTheChain() throws {
    let negotiation = Negotiation()
    let server = try ScriptedUpstream()
    let socket = try StreamSocket.connect(to: server.address, mark: nil)
    Self.start(negotiation, try Self.chain())
    for exchange in Self.exchanges.prefix(2) {
      _ = negotiation.flush(to: socket.rawValue)
      _ = Self.feed(exchange.answer, to: negotiation)
    }
    #expect(negotiation.hop == 1 && !negotiation.isAtLastHop)
    negotiation.reset()
    #expect(negotiation.hop == 0 && negotiation.isAtLastHop)
    let lone = Upstream(at: .address(server.address), .http(nil))
    Self.start(negotiation, lone)
    let answer = Array("HTTP/1.1 200\r\n\r\n".utf8)
    #expect(Self.feed(answer, to: negotiation).action == .established)
  }
}
