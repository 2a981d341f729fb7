import Addressing
import Glibc

/// A path for a Unix socket that nothing else has; what is there goes away with this.
final class TemporarySocketPath: Sendable {
  let path: SocketPath

  init() {
    let name = "/tmp/sluice-tests-\(getpid())-\(UInt64.random(in: 0 ... .max)).sock"
    guard let path = SocketPath(Array(name.utf8)) else {
      preconditionFailure("\(name) is no path of a socket")
    }
    self.path = path
  }

  deinit { remove() }

  func remove() { unlink("\(path)") }
}
