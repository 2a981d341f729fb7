import Addressing
import Glibc
import Testing

@testable import LinuxIO

/// Sockets with a name in the file system.
struct SocketFileTests {
  private let folder = "/tmp/sluice-tests-\(getpid())-\(UInt64.random(in: 0 ... .max))"
  private var path: String { "\(folder)/socket" }
  private var place: SocketPath { place(path) }

  private func place(_ path: String) -> SocketPath {
    guard let place = SocketPath(Array(path.utf8)) else { preconditionFailure("not a path") }
    return place
  }

  /// Runs a test, and removes what it made.
  private func test(_ body: () throws -> Void) rethrows {
    defer {
      unlink(path)
      rmdir(folder)
    }
    try body()
  }

  private func failure() -> Errno? {
    do {
      _ = try SocketFile(place, group: getegid())
      return nil
    } catch {
      return error
    }
  }

  private func mode(of path: String) -> mode_t {
    var status = stat()
    #expect(lstat(path, &status) == 0)
    return status.st_mode & 0o7777
  }

  @Test func isMadeWithItsFolder() throws {
    try test {
      let file = try SocketFile(place, group: getegid())
      #expect(mode(of: folder) == 0o755)
      #expect(mode(of: path) == 0o660)
      let none = try file.accept() == nil
      #expect(none)
      guard let client = try LocalSocket.connect(to: place) else {
        Issue.record("nobody listens")
        return
      }
      let accepted = try file.accept()
      guard let server = accepted else {
        Issue.record("nobody came")
        return
      }
      #expect(LocalSocket.peer(of: server)?.process == getpid())
      #expect(LocalSocket.peer(of: server)?.user == geteuid())
      try LocalSocket.send(7, to: server)
      #expect(LocalSocket.receive(from: client, timeout: .seconds(10)) == 7)
      file.remove()
      file.remove()
      #expect(access(path, F_OK) != 0)
    }
  }

  @Test func isLeftToWhoListens() throws {
    try test {
      let file = try SocketFile(place, group: getegid())
      #expect(failure() == .addressInUse)
      // As many as may wait.
      var clients: [Int32] = []
      while let client = try? LocalSocket.connect(to: place) { clients.append(client.take()) }
      #expect(failure() == .addressInUse)
      for client in clients { _ = Descriptor(owning: client) }
      file.remove()
    }
  }

  @Test func replacesWhatIsLeft() throws {
    try test {
      _ = try SocketFile(place, group: getegid())
      #expect(access(path, F_OK) == 0)
      let file = try SocketFile(place, group: getegid())
      _ = try LocalSocket.connect(to: place)
      file.remove()
    }
  }

  @Test func touchesNothingElse() throws {
    test {
      #expect(mkdir(folder, 0o755) == 0)
      close(open(path, O_CREAT | O_WRONLY, 0o600))
      #expect(failure() == .fileExists)
      #expect(mode(of: path) == 0o600)
    }
    try test {
      let file = try SocketFile(place, group: getegid())
      unlink(path)
      close(open(path, O_CREAT | O_WRONLY, 0o600))
      file.remove()
      #expect(access(path, F_OK) == 0)
    }
  }

  @Test func folderThatIsMissing() {
    do {
      _ = try SocketFile(place("\(folder)/further/socket"), group: getegid())
      Issue.record("made")
    } catch {
      #expect(error == .noEntry)
    }
  }

  @Test func waitingEnds() throws {
    try test {
      let file = try SocketFile(place, group: getegid())
      file.shutdown()
      file.wait()
      file.remove()
    }
  }
}

/// What a descriptor is that somebody else has made.
struct SocketKindTests {
  @Test func kinds() throws {
    let v4 = try StreamSocket.listen(on: .init(.v4(.loopback), 0), .init())
    #expect(v4.kind == Descriptor.Kind(isIPv4: true, .listener))
    let unconnected = try StreamSocket.open(isIPv4: true)
    #expect(unconnected.kind == nil)
    let datagrams = try DatagramSocket.open(for: .init(.v4(.loopback), 0))
    #expect(datagrams.kind == Descriptor.Kind(isIPv4: true, .datagrams))
    let file = Descriptor(owning: open("/dev/null", O_RDONLY))
    #expect(file.kind == nil)
    let local = try LocalSocket.listen(on: "sluice-tests-\(UInt64.random(in: 0 ... .max))")
    #expect(local.kind == nil)
  }

  @Test func networkNamespaceIsTheSame() throws {
    let one = try StreamSocket.open(isIPv4: true)
    let other = try DatagramSocket.open(for: .init(.v4(.loopback), 0))
    #expect(one.networkNamespace == other.networkNamespace)
    let file = Descriptor(owning: open("/dev/null", O_RDONLY))
    #expect(file.networkNamespace == nil)
  }

  @Test func blockingOneDoesNotBlockAnyMore() throws {
    let socket = Descriptor(owning: socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0))
    #expect(fcntl(socket.rawValue, F_GETFL) & O_NONBLOCK == 0)
    try socket.makeNonblocking()
    #expect(fcntl(socket.rawValue, F_GETFL) & O_NONBLOCK != 0)
  }
}
