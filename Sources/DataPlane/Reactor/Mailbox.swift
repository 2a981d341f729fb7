internal import Addressing
internal import LinuxIO
internal import Synchronization

/// What other threads ask of a worker.
enum Command: Sendable {
  /// Names were looked up for the session that `token` stands for; empty if that failed.
  case resolved(token: UInt64, addresses: [IPAddress])
  /// Capture nothing more; report when the last session is gone.
  case drain
  /// End now: sessions that are left are reset.
  case stop
}

/// A worker's letter box: any thread posts, the worker takes all at once.
final class Mailbox: Sendable {
  private let commands = Mutex<[Command]>([])
  private let waker: Waker

  init() throws(Errno) { waker = try Waker() }

  /// For registration with the worker's `Epoll`.
  var wakeDescriptor: Int32 { waker.rawValue }

  func post(_ command: Command) {
    commands.withLock { $0.append(command) }
    waker.wake()
  }

  func takeAll() -> [Command] {
    waker.clear()
    return commands.withLock { waiting in
      defer { waiting = [] }
      return waiting
    }
  }
}
