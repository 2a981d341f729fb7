internal import LinuxIO

/// Lets each kind of failure be told at once, and then at most once per interval with its count.
struct ProblemLimiter {
  static let interval = Timeout.seconds(10)

  private var untold = [UInt64](repeating: 0, count: Failure.allCases.count)
  private var quietUntil = [Instant](
    repeating: Instant(milliseconds: 0), count: Failure.allCases.count)

  /// Notes one failure; returns how many there were since the last telling, if it is time to tell.
  mutating func note(_ failure: Failure, now: Instant) -> UInt64? {
    let index = failure.rawValue
    untold[index] += 1
    guard quietUntil[index] <= now else { return nil }
    defer { untold[index] = 0 }
    quietUntil[index] = now + Self.interval
    return untold[index]
  }
}
