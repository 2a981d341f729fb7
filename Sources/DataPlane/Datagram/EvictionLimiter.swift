internal import LinuxIO

/// How often associations may give way to others: where more clients are active than there is room for,
/// each would take the place of one that is about to be used, and nothing but handshakes would get done.
struct EvictionLimiter {
  static let maximum = 1024
  static let interval = Timeout.seconds(1)

  private var left = maximum
  private var refill = Instant(milliseconds: 0)

  /// Whether one more may give way now.
  mutating func take(now: Instant) -> Bool {
    if refill <= now {
      left = Self.maximum
      refill = now + Self.interval
    }
    guard left > 0 else { return false }
    left -= 1
    return true
  }
}
