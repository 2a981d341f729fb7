import Addressing
import DataPlane
import LinuxIO
import SOCKS
import Testing

@testable import Daemon

/// An upstream with several addresses: which is asked when, and which is taken.
struct AddressRaceTests {
  /// An HTTP proxy on loopback that answers nobody, or everybody that it does not reach the target.
  private final class Proxy: Sendable {
    let upstream: Upstream
    private let listener: Descriptor

    init() throws {
      listener = try StreamSocket.listen(on: SocketAddress(.v4(.loopback), 0), .init())
      guard let address = listener.localAddress else { throw Errno.addressNotAvailable }
      upstream = Upstream(at: .address(address), .http(nil))
    }

    /// Whether somebody has connected; waits for it.
    func isAsked(within timeout: Timeout) -> Bool {
      listener.wait(for: .readable, until: .now() + timeout)
    }

    /// Answers one client on a thread of its own.
    func answer() throws {
      try Thread(name: "proxy") { [self] in
        guard isAsked(within: .seconds(10)),
          case .connection(let socket, peer: _) = StreamSocket.accept(from: listener)
        else { return }
        _ = socket.wait(for: .readable, until: .now() + .seconds(10))
        Array("HTTP/1.1 502 X\r\n\r\n".utf8).withUnsafeBytes { _ = send(socket.rawValue, $0) }
        // Until the client has had it.
        _ = socket.wait(for: .readable, until: .now() + .seconds(10))
      }.detach()
    }
  }

  /// As long as none of these tests takes by itself.
  private let race = AddressRace(mark: nil, timeout: .seconds(60))

  @Test func silenceHoldsNobodyUp() throws {
    let (silent, good) = (try Proxy(), try Proxy())
    try good.answer()
    let attempt = try #require(race.run([silent.upstream, good.upstream]))
    #expect(attempt.isLetIn && attempt.upstream === good.upstream)
    #expect(silent.isAsked(within: .seconds(0)))
  }

  @Test func theFirstIsTakenWhereItAnswers() throws {
    let (good, other) = (try Proxy(), try Proxy())
    try good.answer()
    let attempt = try #require(race.run([good.upstream, other.upstream]))
    #expect(attempt.isLetIn && attempt.upstream === good.upstream)
  }

  /// Nobody waits for a head start behind one that refuses.
  @Test func whereNoneLetsUsInItIsTheFirstThatIsTold() throws {
    let reservation = try StreamSocket.reservePort(on: .v4(.loopback))
    guard let closed = reservation.localAddress else { throw Errno.addressNotAvailable }
    let upstreams = (0..<3).map { _ in Upstream(at: .address(closed), .http(nil)) }
    let attempt = try #require(race.run(upstreams))
    #expect(!attempt.isLetIn && attempt.upstream === upstreams[0])
    #expect(race.run([])?.isLetIn == nil)
    withExtendedLifetime(reservation) {}
  }

  @Test(arguments: [
    ([], []), (["::1"], ["::1"]),
    (["::1", "::2", "192.0.2.1"], ["::1", "192.0.2.1", "::2"]),
    (
      ["192.0.2.1", "192.0.2.2", "::1", "::2", "::3"],
      ["192.0.2.1", "::1", "192.0.2.2", "::2", "::3"]
    ),
  ])
  func familiesTakeTurns(_ addresses: [String], _ expected: [String]) throws {
    let parsed = try addresses.map { try #require(IPAddress($0)) }
    #expect(AddressRace.interlaced(parsed).map(\.description) == expected)
  }
}
