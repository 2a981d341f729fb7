internal import LinuxIO

/// How many connections are kept ready with one upstream, and for how long each.
///
/// A flow that finds none doubles their number, up to a maximum; those that nobody has needed for a while
/// become half as many, and none are kept when no flow has come for longer. The server has the last word
/// on their age: it is less than the one at which it has ended one, until that has held for many.
struct PoolSchedule {
  /// How old one becomes at most: younger than what middleboxes and servers leave alone as a rule.
  static let longestAge = Timeout.seconds(30)
  static let shortestAge = Timeout(milliseconds: 500)
  /// A server that ends so many of them sooner, and lets none carry a flow meanwhile, is left alone for a
  /// while.
  static let earlyEndsBeforePause = 8
  /// Between two looks at how many nobody has needed.
  static let reviewInterval = Timeout.seconds(5)
  /// After how long without a flow none are kept.
  static let quietPeriod = Timeout.seconds(60)
  /// How long no connection is begun after one that failed: the first time, and at most.
  static let firstPause = Timeout.seconds(1)
  static let longestPause = Timeout.seconds(30)
  /// How many have to reach their age until it is doubled.
  static let agedBeforeLonger = 16

  let maximum: Int
  private(set) var wanted = 0
  /// How old one may become.
  private(set) var age = longestAge
  private var agedCount = 0
  /// The fewest that were left by any flow since the last review.
  private var leastSpare = 0
  private var lastFlow = Instant(milliseconds: 0)
  private var nextReview = Instant(milliseconds: 0)
  private var pausedUntil = Instant(milliseconds: 0)
  /// Pauses, and ends of connections that were not as old as they might become: without a success between
  /// them.
  private var failureCount: UInt64 = 0
  private var earlyEndCount = 0

  init(maximum: Int) { self.maximum = maximum }

  /// A flow has come.
  /// - Parameter ready: how many there were for it.
  mutating func noteFlow(ready: Int, now: Instant) {
    if wanted == 0 { nextReview = now + Self.reviewInterval }
    lastFlow = now
    if ready == 0 { wanted = min(max(2 * wanted, 1), maximum) }
    leastSpare = min(leastSpare, max(ready - 1, 0))
  }

  /// One has carried a flow.
  mutating func noteSuccess() {
    failureCount = 0
    earlyEndCount = 0
  }

  /// One could not be made ready.
  mutating func noteFailure(now: Instant) {
    let pause = min(
      UInt64(Self.firstPause.milliseconds) << min(failureCount, 16),
      UInt64(Self.longestPause.milliseconds))
    failureCount += 1
    pausedUntil = now + Timeout(milliseconds: UInt32(pause))
  }

  /// The server has ended one that waited.
  mutating func noteEnd(age ended: Timeout, now: Instant) {
    agedCount = 0
    let usable = Timeout(milliseconds: ended.milliseconds / 4 * 3)
    age = max(min(age, usable), Self.shortestAge)
    guard usable < Self.shortestAge else { return }
    earlyEndCount += 1
    guard earlyEndCount >= Self.earlyEndsBeforePause else { return }
    earlyEndCount = 0
    noteFailure(now: now)
  }

  /// One has become too old while the server still held it.
  mutating func noteAged() {
    agedCount += 1
    guard agedCount >= Self.agedBeforeLonger else { return }
    agedCount = 0
    age = min(Timeout(milliseconds: 2 * age.milliseconds), Self.longestAge)
  }

  /// Takes back what nobody has needed.
  mutating func review(now: Instant) {
    guard wanted > 0, nextReview <= now else { return }
    wanted =
      lastFlow + Self.quietPeriod <= now ? 0 : max(wanted - (leastSpare + 1) / 2, 1)
    leastSpare = wanted
    nextReview = now + Self.reviewInterval
  }

  /// How many are to be begun now.
  /// - Parameter count: how many there are, ready or not.
  func missing(beside count: Int, now: Instant) -> Int {
    pausedUntil <= now ? max(wanted - count, 0) : 0
  }

  /// When `review` or `missing` may say something else by time alone; nil: never.
  func nextTurn(now: Instant) -> Instant? {
    guard wanted > 0 else { return nil }
    return pausedUntil > now ? min(pausedUntil, nextReview) : nextReview
  }
}
