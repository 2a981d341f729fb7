internal import LinuxIO
internal import Synchronization

/// By which clients of the control socket end a run. The first one decides.
final class DrainRequest: Sendable {
  private struct State {
    var isMade = false
    var timeout: UInt32?
  }

  private let state = Mutex(State())
  private let waker: Waker

  init() throws(Errno) { waker = try Waker() }

  /// For registration with `Epoll`: readable when it has been made.
  var wakeDescriptor: Int32 { waker.rawValue }

  var isMade: Bool { state.withLock { $0.isMade } }

  /// Seconds for open flows to end; nil: what the run has settled.
  var timeout: UInt32? { state.withLock { $0.timeout } }

  func make(timeout: UInt32?) {
    state.withLock { state in
      if !state.isMade { state = State(isMade: true, timeout: timeout) }
    }
    waker.wake()
  }

  /// It has been heard of.
  func clearWake() { waker.clear() }
}
