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

/// A reading of the same clock in microseconds, for what is measured with it.
@usableFromInline
package struct ClockReading: Hashable, Sendable {
  @usableFromInline package let microseconds: UInt64

  @inlinable package init(microseconds: UInt64) { self.microseconds = microseconds }

  package static func now() -> ClockReading {
    ClockReading(microseconds: clx_monotonic_microseconds())
  }

  @inlinable package var instant: Instant { Instant(milliseconds: microseconds / 1000) }

  /// Microseconds from `earlier` to this, 0 if it is not earlier.
  @inlinable package func microseconds(since earlier: ClockReading) -> UInt64 {
    microseconds > earlier.microseconds ? microseconds - earlier.microseconds : 0
  }

  /// A reading in 4 bytes, in units of 64 µs, which are the same again after three days; or none.
  @usableFromInline
  package struct Stamp: Hashable, Sendable {
    @usableFromInline let value: UInt32
    @inlinable init(value: UInt32) { self.value = value }

    @inlinable package static var none: Stamp { Stamp(value: 0) }
  }

  @inlinable package var stamp: Stamp {
    Stamp(value: max(1, UInt32(truncatingIfNeeded: microseconds >> 6)))
  }

  /// Microseconds from `earlier` to this, as exactly as a stamp is.
  @inlinable package func microseconds(since earlier: Stamp) -> UInt64 {
    UInt64(stamp.value &- earlier.value) << 6
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
