internal import LinuxIO

/// How long a flow took to be set up, in 2 bytes: every session has one.
struct SetUpTime: Hashable {
  /// One more than its milliseconds, a minute at most; 0 while the flow is being set up.
  private var value: UInt16 = 0

  init() {}

  init(from opened: Instant, to now: Instant) {
    value = UInt16(clamping: now.milliseconds(since: opened) + 1)
  }

  /// Nil while the flow is being set up.
  var milliseconds: UInt64? { value == 0 ? nil : UInt64(value - 1) }
}
