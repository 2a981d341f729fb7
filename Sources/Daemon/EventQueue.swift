internal import DataPlane
internal import LinuxIO
internal import Synchronization

/// Events of the data plane on their way to the supervisor's thread.
final class EventQueue: Sendable {
  private let events = Mutex<[Event]>([])
  private let waker: Waker

  init() throws(Errno) { waker = try Waker() }

  /// For registration with `Epoll`.
  var wakeDescriptor: Int32 { waker.rawValue }

  func post(_ event: Event) {
    events.withLock { $0.append(event) }
    waker.wake()
  }

  func takeAll() -> [Event] {
    waker.clear()
    return events.withLock { waiting in
      defer { waiting = [] }
      return waiting
    }
  }
}
