internal import LinuxIO
internal import Synchronization

/// By which clients of the control socket have a run read its settings again: it does so on its own thread,
/// in its own time, and they wait for what comes of it.
final class ReloadRequest: Sendable {
  private final class Waiter: Sendable {
    /// Nil while it waits, and where the run has ended instead.
    let outcome = Mutex<ReloadOutcome?>(nil)
    let isDone = Semaphore()
  }

  private struct State {
    var waiters: [Waiter] = []
    /// Those for whom it is being done.
    var granted: [Waiter] = []
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
  /// - Parameter reload: calls back when it is done.
  func grant(_ reload: (@escaping (ReloadOutcome) -> Void) -> Void) {
    waker.clear()
    let waiters = takeWaiters()
    guard !waiters.isEmpty else { return }
    state.withLock { $0.granted += waiters }
    reload { [self] outcome in
      state.withLock { state in
        state.granted.removeAll { one in waiters.contains { $0 === one } }
      }
      for waiter in waiters {
        waiter.outcome.withLock { $0 = outcome }
        waiter.isDone.signal()
      }
    }
  }

  /// Nobody is granted it from here on.
  func close() {
    let granted = state.withLock { state in
      state.isClosed = true
      defer { state.granted = [] }
      return state.granted
    }
    for waiter in takeWaiters() + granted { waiter.isDone.signal() }
  }

  private func takeWaiters() -> [Waiter] {
    state.withLock { state in
      defer { state.waiters = [] }
      return state.waiters
    }
  }
}
