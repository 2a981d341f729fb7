internal import LinuxIO
internal import Synchronization

/// By which clients of the control socket have a run read its settings again, one after the other: it does
/// so on its own thread, and they wait for what comes of it.
final class ReloadRequest: Sendable {
  private final class Waiter: Sendable {
    /// Nil while it waits, and where the run has ended instead.
    let outcome = Mutex<ReloadOutcome?>(nil)
    let isDone = Semaphore()
  }

  private struct State {
    var waiters: [Waiter] = []
    var isClosed = false
  }

  private let state = Mutex(State())
  private let waker: Waker

  init() throws(Errno) { waker = try Waker() }

  /// For registration with `Epoll`: readable when somebody waits.
  var wakeDescriptor: Int32 { waker.rawValue }

  /// Blocks until it has been done; nil if the run ends instead.
  func make() -> ReloadOutcome? {
    let waiter = Waiter()
    let isWaiting = state.withLock { state in
      if !state.isClosed { state.waiters.append(waiter) }
      return !state.isClosed
    }
    guard isWaiting else { return nil }
    waker.wake()
    waiter.isDone.wait()
    return waiter.outcome.withLock { $0 }
  }

  /// Does it once for all who wait now, since they all have changed before what is read then.
  func grant(_ reload: () -> ReloadOutcome) {
    waker.clear()
    let waiters = takeWaiters()
    guard !waiters.isEmpty else { return }
    let outcome = reload()
    for waiter in waiters {
      waiter.outcome.withLock { $0 = outcome }
      waiter.isDone.signal()
    }
  }

  /// Nobody is granted it from here on.
  func close() {
    state.withLock { $0.isClosed = true }
    for waiter in takeWaiters() { waiter.isDone.signal() }
  }

  private func takeWaiters() -> [Waiter] {
    state.withLock { state in
      defer { state.waiters = [] }
      return state.waiters
    }
  }
}
