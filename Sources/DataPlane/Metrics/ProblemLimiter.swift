internal import LinuxIO

/// Lets each kind of failure be told at once, and then at most once per interval with its count; and each
/// cause of a loop once per interval.
struct ProblemLimiter {
  static let interval = Timeout.seconds(10)
  /// Causes that are remembered: more than a few at once are not to be expected.
  private static let maximumCauses = 16

  private var untold = [UInt64](repeating: 0, count: Failure.allCases.count)
  private var quietUntil = [Instant](
    repeating: Instant(milliseconds: 0), count: Failure.allCases.count)

  private var quietCauses: [LoopCause: Instant] = [:]

  /// Whether it is time to tell this cause.
  mutating func isDue(_ cause: LoopCause, now: Instant) -> Bool {
    if let until = quietCauses[cause], now < until { return false }
    if quietCauses.count == Self.maximumCauses { quietCauses = [:] }
    quietCauses[cause] = now + Self.interval
    return true
  }

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
