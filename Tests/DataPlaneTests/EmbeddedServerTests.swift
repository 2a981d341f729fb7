import Addressing
import LinuxIO
import SOCKS
import Testing

@testable import DataPlane

/// The client engine against the embedded server, over real sockets and without privilege.
struct EmbeddedServerTests {
  @Test(arguments: [ClientHandshake.Mode.stepwise, .pipelined])
  func repliesWithoutAuthentication(mode: ClientHandshake.Mode) throws {
    let server = try EmbeddedServer(credentials: nil)
    guard case .replied = server.probe(nil, mode) else {
      Issue.record("no reply")
      return
    }
  }

  @Test(arguments: [ClientHandshake.Mode.stepwise, .pipelined])
  func checksCredentials(mode: ClientHandshake.Mode) throws {
    let right = try Credentials(username: "ann", password: "secret")
    let server = try EmbeddedServer(credentials: right)
    guard case .replied = server.probe(right, mode) else {
      Issue.record("the right password was refused")
      return
    }
    let wrong = try Credentials(username: "ann", password: "secreT")
    guard case .failed(.authenticationRejected, isTimeout: false) = server.probe(wrong, mode) else {
      Issue.record("a wrong password was let in")
      return
    }
    guard case .failed(.noAcceptableMethod, isTimeout: false) = server.probe(nil, mode) else {
      Issue.record("no password was let in")
      return
    }
  }

  @Test func nobodyListens() throws {
    let reservation = try StreamSocket.reservePort(on: .v4(.loopback))
    guard let address = reservation.localAddress else { throw Errno.addressNotAvailable }
    let outcome = UpstreamProbe.run(
      Upstream(at: .address(address), credentials: nil), mode: .stepwise, mark: nil,
      timeout: .seconds(10))
    guard case .cannotConnect(.connectionRefused) = outcome else {
      Issue.record("\(outcome)")
      return
    }
  }

  /// A server that takes the connection and says nothing is told apart from one that is not there.
  @Test func silenceIsATimeout() throws {
    let listener = try StreamSocket.listen(on: SocketAddress(.v4(.loopback), 0), .init())
    guard let address = listener.localAddress else { throw Errno.addressNotAvailable }
    let outcome = UpstreamProbe.run(
      Upstream(at: .address(address), credentials: nil), mode: .stepwise, mark: nil,
      timeout: Timeout(milliseconds: 50))
    guard case .failed(.closed(.methodSelection), isTimeout: true) = outcome else {
      Issue.record("\(outcome)")
      return
    }
  }

  /// Sessions are counted from open to close, and stopping leaves none.
  @Test func sessionsAreCounted() throws {
    let server = try EmbeddedServer(credentials: nil)
    for _ in 0..<20 { _ = server.probe(nil, .stepwise) }
    server.dataPlane.stop()
    let snapshot = server.dataPlane.snapshot()
    #expect(snapshot[.sessionsOpened] == 20)
    #expect(snapshot.liveSessions == 0)
  }
}
