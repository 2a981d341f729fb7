internal import CLinux

/// A point on the monotonic clock, in milliseconds since an arbitrary start (`CLOCK_MONOTONIC`).
@usableFromInline
package struct Instant: Hashable, Comparable, Sendable {
  @usableFromInline package var milliseconds: UInt64

  @inlinable package init(milliseconds: UInt64) { self.milliseconds = milliseconds }

  /// Never comes.
  package static let distantFuture = Instant(milliseconds: .max)

  package static func now() -> Instant { Instant(milliseconds: clx_monotonic_milliseconds()) }

  @inlinable package static func < (a: Instant, b: Instant) -> Bool {
    a.milliseconds < b.milliseconds
  }

  @inlinable package static func + (instant: Instant, timeout: Timeout) -> Instant {
    Instant(milliseconds: instant.milliseconds + UInt64(timeout.milliseconds))
  }

  @inlinable package static func - (instant: Instant, timeout: Timeout) -> Instant {
    Instant(
      milliseconds: instant.milliseconds - min(UInt64(timeout.milliseconds), instant.milliseconds))
  }

  /// Milliseconds from `earlier` to this, 0 if it is not earlier.
  @inlinable package func milliseconds(since earlier: Instant) -> UInt64 {
    milliseconds > earlier.milliseconds ? milliseconds - earlier.milliseconds : 0
  }
}

/// A span of time in milliseconds, at most 49 days.
@usableFromInline
package struct Timeout: Hashable, Comparable, Sendable {
  @usableFromInline package var milliseconds: UInt32

  @inlinable package init(milliseconds: UInt32) { self.milliseconds = milliseconds }

  package static func seconds(_ seconds: UInt32) -> Timeout {
    Timeout(milliseconds: seconds * 1000)
  }

  @inlinable package static func < (a: Timeout, b: Timeout) -> Bool {
    a.milliseconds < b.milliseconds
  }
}

/// Lets the calling thread rest.
package func pause(_ timeout: Timeout) {
  // A negative descriptor is never ready (`poll(2)`).
  _ = clx_poll(-1, 0, Int32(clamping: timeout.milliseconds))
}
