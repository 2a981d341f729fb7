import Addressing
import Glibc
import Testing

@testable import LinuxIO

/// Names and paths lead to who listens, with who that is.
final class LocalSocketTests {
  private let name = "sluice-tests-\(getpid())-\(UInt64.random(in: 0 ... .max))"
  /// Nothing is there at first.
  private let path: SocketPath
  private let link: String

  init() throws {
    link = "/tmp/\(name).link"
    path = try #require(SocketPath(Array("/tmp/\(name)".utf8)))
  }

  deinit {
    unlink("\(path)")
    unlink(link)
  }

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

  // MARK: Paths

  @Test func connectsByPath() throws {
    let listener = try LocalSocket.listen(at: path)
    guard let client = try LocalSocket.connect(to: path) else {
      Issue.record("no room")
      return
    }
    guard let server = LocalSocket.accept(listener) else {
      Issue.record("nobody came")
      return
    }
    try LocalSocket.send(7, to: client)
    let byte = LocalSocket.receive(from: server, timeout: .seconds(10))
    #expect(byte == 7)
    let hasAddress = client.localAddress != nil
    #expect(!hasAddress)
  }

  @Test func takesTheLongestPath() throws {
    let rest = SocketPath.maximumBytes - path.bytes.count
    let path = try #require(
      SocketPath(path.bytes + [UInt8](repeating: UInt8(ascii: "s"), count: rest)))
    let listener = try LocalSocket.listen(at: path)
    let isConnected = try LocalSocket.connect(to: path) != nil
    #expect(isConnected)
    withExtendedLifetime(listener) {}
    #expect(unlink("\(path)") == 0)
  }

  /// Until somebody is accepted there is no connection, and then there is.
  @Test func waitsForRoom() throws {
    let listener = try LocalSocket.listen(at: path, backlog: 0)
    let first = try LocalSocket.connect(to: path)
    let second = try LocalSocket.connect(to: path)
    let isFull = (first == nil, second == nil)
    #expect(isFull == (false, true))
    _ = LocalSocket.accept(listener)
    let third = try LocalSocket.connect(to: path)
    let isConnected = third != nil
    #expect(isConnected)
  }

  @Test func tellsWhyThereIsNoConnection() throws {
    func failure() -> Errno? {
      do {
        _ = try LocalSocket.connect(to: path)
        return nil
      } catch {
        return error
      }
    }
    #expect(failure() == .noEntry)
    do { _ = try LocalSocket.listen(at: path) }
    #expect(failure() == .connectionRefused)
  }

  @Test func ownerIsFoundByPath() throws {
    #expect(SocketOwner.listening(at: path) == nil)
    let listener = try LocalSocket.listen(at: path)
    let owner = try #require(SocketOwner.listening(at: path))
    #expect(owner.isOurselves)
    #expect(symlink("\(path)", link) == 0)
    let linked = try #require(SocketPath(Array(link.utf8)))
    #expect(SocketOwner.listening(at: linked) == owner)
    _ = consume listener
    #expect(SocketOwner.listening(at: path) == nil)
  }
}
