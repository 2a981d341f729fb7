internal import CLinux

/// What is awaited of a descriptor (`epoll_ctl(2)`).
package struct Interest: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  package static let readable = Interest(
    rawValue: EPOLLIN.rawValue | EPOLLPRI.rawValue | EPOLLRDHUP.rawValue)
  package static let writable = Interest(rawValue: EPOLLOUT.rawValue)
  /// Report changes only; without it a state is reported for as long as it lasts.
  package static let edgeTriggered = Interest(rawValue: EPOLLET.rawValue)
}

/// What the kernel reported of a descriptor.
package struct Readiness: OptionSet, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  package static let readable = Readiness(rawValue: EPOLLIN.rawValue)
  package static let writable = Readiness(rawValue: EPOLLOUT.rawValue)
  /// Urgent data is there (`tcp(7)`).
  package static let urgent = Readiness(rawValue: EPOLLPRI.rawValue)
  /// The peer has shut down its sending side: a read will end with 0.
  package static let readClosed = Readiness(rawValue: EPOLLRDHUP.rawValue)
  package static let error = Readiness(rawValue: EPOLLERR.rawValue)
  /// Both directions are shut down, or the connection failed.
  package static let hangUp = Readiness(rawValue: EPOLLHUP.rawValue)
}

/// An epoll instance and the buffer that its events arrive in.
package struct Epoll: ~Copyable {
  private let descriptor: Descriptor
  private let events: UnsafeMutablePointer<epoll_event>
  private let capacity: Int32

  /// - Parameter capacity: events taken per `wait`.
  package init(capacity: Int) throws(Errno) {
    descriptor = Descriptor(owning: try checked(clx_epoll_create()))
    events = .allocate(capacity: capacity)
    self.capacity = Int32(capacity)
  }

  deinit { events.deallocate() }

  package func add(_ target: Int32, _ interest: Interest, token: UInt64) throws(Errno) {
    _ = try checked(
      clx_epoll_control(descriptor.rawValue, EPOLL_CTL_ADD, target, interest.rawValue, token))
  }

  package func modify(_ target: Int32, _ interest: Interest, token: UInt64) throws(Errno) {
    _ = try checked(
      clx_epoll_control(descriptor.rawValue, EPOLL_CTL_MOD, target, interest.rawValue, token))
  }

  package func remove(_ target: Int32) throws(Errno) {
    _ = try checked(clx_epoll_control(descriptor.rawValue, EPOLL_CTL_DEL, target, 0, 0))
  }

  /// Waits at most `milliseconds` (negative: for ever) and returns how many events there are.
  /// An interrupted wait returns 0, for the caller computes its timeout anew in any case.
  package func wait(milliseconds: Int32) -> Int {
    let count = clx_epoll_wait(descriptor.rawValue, events, capacity, milliseconds)
    if count >= 0 { return Int(count) }
    precondition(count == -EINTR, "epoll_wait failed")
    return 0
  }

  /// The event at `index`, below the count that the last `wait` returned.
  package func event(at index: Int) -> (token: UInt64, readiness: Readiness) {
    // SAFETY: the kernel has initialised the first `count` events, and callers stay below it.
    (
      clx_epoll_token(events, Int32(index)),
      Readiness(rawValue: clx_epoll_events(events, Int32(index)))
    )
  }
}
