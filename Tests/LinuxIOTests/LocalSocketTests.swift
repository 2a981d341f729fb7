import Glibc
import Testing

@testable import LinuxIO

/// Abstract names lead to who listens, with who that is.
struct LocalSocketTests {
  private let name = "sluice-tests-\(getpid())-\(UInt64.random(in: 0 ... .max))"

  @Test func carriesAByteToATrustedUser() throws {
    let listener = try LocalSocket.listen(on: name)
    let client = try LocalSocket.connect(to: name)
    let accepted = LocalSocket.accept(listener)
    guard let server = accepted else {
      Issue.record("nobody came")
      return
    }
    let trust = (LocalSocket.isTrusted(client), LocalSocket.isTrusted(server))
    #expect(trust == (true, true))
    try LocalSocket.send(7, to: server)
    let byte = LocalSocket.receive(from: client, timeout: .seconds(10))
    #expect(byte == 7)
  }

  @Test func hasOneListenerOnly() throws {
    let listener = try LocalSocket.listen(on: name)
    do {
      _ = try LocalSocket.listen(on: name)
      Issue.record("two listen")
    } catch {
      #expect(error == .addressInUse)
    }
    let hasConnection = LocalSocket.accept(listener) != nil
    #expect(!hasConnection)
  }

  @Test func refusesWhereNobodyListens() {
    do {
      _ = try LocalSocket.connect(to: name)
      Issue.record("somebody listens")
    } catch {
      #expect(error == .connectionRefused)
    }
  }

  @Test func hearsNothingOfASideThatCloses() throws {
    let listener = try LocalSocket.listen(on: name)
    let client = try LocalSocket.connect(to: name)
    _ = consume listener
    let byte = LocalSocket.receive(from: client, timeout: .seconds(10))
    #expect(byte == nil)
  }
}
