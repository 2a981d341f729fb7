internal import CLinux

// What runs for each event is inlined into the data plane, which takes more than `package`: the
// compiler inlines across targets only what is `@inlinable`, and makes literals of option sets
// without an allocation only where it sees how they are stored. The numbers are those of
// <linux/eventpoll.h>, the same everywhere, since what is inlined cannot name them.

/// What is awaited of a descriptor (`epoll_ctl(2)`).
@usableFromInline
package struct Interest: OptionSet, Sendable {
  @usableFromInline package let rawValue: UInt32
  @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }

  /// With EPOLLPRI and EPOLLRDHUP.
  @inlinable package static var readable: Interest { Interest(rawValue: 0x2003) }
  @inlinable package static var writable: Interest { Interest(rawValue: 0x4) }
  /// A listener's connections, with EPOLLEXCLUSIVE: of several epolls that wait for those of one socket the
  /// first that sleeps is woken, in the order in which they were added, and not all. It cannot be modified.
  @inlinable package static var acceptable: Interest { Interest(rawValue: 0x1000_0001) }
  /// Report changes only; without it a state is reported for as long as it lasts.
  @inlinable package static var edgeTriggered: Interest { Interest(rawValue: 0x8000_0000) }
}

/// What the kernel reported of a descriptor.
@usableFromInline
package struct Readiness: OptionSet, Sendable {
  @usableFromInline package let rawValue: UInt32
  @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }

  @inlinable package static var readable: Readiness { Readiness(rawValue: 0x1) }
  @inlinable package static var writable: Readiness { Readiness(rawValue: 0x4) }
  /// Urgent data is there (`tcp(7)`).
  @inlinable package static var urgent: Readiness { Readiness(rawValue: 0x2) }
  /// The peer has shut down its sending side: a read will end with 0.
  @inlinable package static var readClosed: Readiness { Readiness(rawValue: 0x2000) }
  @inlinable package static var error: Readiness { Readiness(rawValue: 0x8) }
  /// Both directions are shut down, or the connection failed.
  @inlinable package static var hangUp: Readiness { Readiness(rawValue: 0x10) }
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
