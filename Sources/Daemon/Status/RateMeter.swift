internal import LinuxIO

/// How fast totals have grown of late: over the last ten to twelve seconds, or since the start where that
/// is less.
struct RateMeter {
  struct Totals: Hashable {
    var sessions: UInt64 = 0
    /// Bytes to the upstream, and from it.
    var sent: UInt64 = 0
    var received: UInt64 = 0
  }

  /// Each per second.
  struct Rates: Hashable, Codable {
    var sessions = 0.0
    var sent = 0.0
    var received = 0.0
  }

  /// Between two samples at least.
  static let interval = Timeout.seconds(2)
  private static let maximumSamples = 6

  private var samples: [(time: Instant, totals: Totals)]

  /// Nothing has been counted yet.
  init(start: Instant) { samples = [(start, Totals())] }

  /// Whether it is time to note the totals again.
  func isDue(at now: Instant) -> Bool {
    guard let last = samples.last else { return true }
    return now >= last.time + Self.interval
  }

  mutating func note(_ totals: Totals, at now: Instant) {
    if samples.count == Self.maximumSamples { samples.removeFirst() }
    samples.append((now, totals))
  }

  /// - Parameter totals: those of now.
  func rates(of totals: Totals, at now: Instant) -> Rates {
    guard let oldest = samples.first else { return Rates() }
    let milliseconds = now.milliseconds(since: oldest.time)
    guard milliseconds > 0 else { return Rates() }
    func rate(_ field: KeyPath<Totals, UInt64>) -> Double {
      let growth = totals[keyPath: field] &- oldest.totals[keyPath: field]
      // A tenth is as exact as this is.
      return (Double(growth) * 10_000 / Double(milliseconds)).rounded() / 10
    }
    return Rates(sessions: rate(\.sessions), sent: rate(\.sent), received: rate(\.received))
  }
}
