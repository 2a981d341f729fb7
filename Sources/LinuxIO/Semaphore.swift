internal import CLinux

/// A counting semaphore between threads (`sem_overview(7)`).
package final class Semaphore: Sendable {
  // SAFETY: initialised once, never moved, and only touched by the sem_* functions.
  private nonisolated(unsafe) let handle: UnsafeMutablePointer<sem_t>

  package init() {
    handle = .allocate(capacity: 1)
    sem_init(handle, 0, 0)
  }

  deinit {
    sem_destroy(handle)
    handle.deallocate()
  }

  package func signal() { sem_post(handle) }

  package func wait() { while sem_wait(handle) != 0 {} }

  /// Waits no longer than until then; false if it has not come.
  package func wait(until deadline: Instant) -> Bool {
    clx_wait_until(handle, deadline.milliseconds) == 0
  }
}
