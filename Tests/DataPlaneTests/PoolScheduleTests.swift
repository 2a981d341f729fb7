import LinuxIO
import Testing

@testable import DataPlane

struct PoolScheduleTests {
  private let start = Instant(milliseconds: 1_000_000)
  private let interval = PoolSchedule.reviewInterval

  @Test func noneAreKeptBeforeTheFirstFlow() {
    let schedule = PoolSchedule(maximum: 8)
    #expect(schedule.missing(beside: 0, now: start) == 0)
    #expect(schedule.nextTurn(now: start) == nil)
  }

  @Test(arguments: [(8, [1, 2, 4, 8, 8]), (3, [1, 2, 3, 3]), (1, [1, 1])])
  func flowsThatFindNoneDoubleThem(_ maximum: Int, _ expected: [Int]) {
    var schedule = PoolSchedule(maximum: maximum)
    for wanted in expected {
      schedule.noteFlow(ready: 0, now: start)
      #expect(schedule.wanted == wanted)
    }
    #expect(schedule.missing(beside: 1, now: start) == maximum - 1)
    schedule.noteFlow(ready: 1, now: start)
    #expect(schedule.wanted == maximum)
  }

  /// Half of what no flow has needed goes at each review, and all after a quiet time.
  @Test func spareOnesGo() {
    var schedule = PoolSchedule(maximum: 8)
    for _ in 0..<4 { schedule.noteFlow(ready: 0, now: start) }
    var now = start
    var kept: [Int] = []
    while schedule.wanted > 0 {
      now = now + interval
      schedule.review(now: now)
      kept.append(schedule.wanted)
    }
    #expect(kept == [8, 4, 2] + Array(repeating: 1, count: 8) + [0])
    #expect(now == start + PoolSchedule.quietPeriod)
    #expect(schedule.nextTurn(now: now) == nil)
  }

  @Test func neededOnesStay() {
    var schedule = PoolSchedule(maximum: 8)
    for _ in 0..<4 { schedule.noteFlow(ready: 0, now: start) }
    schedule.review(now: start + interval)
    // Flows leave 2 of 8 untouched.
    for ready in [8, 5, 3, 8] { schedule.noteFlow(ready: ready, now: start + interval) }
    schedule.review(now: start + interval + interval)
    #expect(schedule.wanted == 7)
  }

  @Test func reviewWaitsForItsTime() {
    var schedule = PoolSchedule(maximum: 8)
    schedule.noteFlow(ready: 0, now: start)
    #expect(schedule.nextTurn(now: start) == start + interval)
    schedule.review(now: start)
    #expect(schedule.wanted == 1 && schedule.nextTurn(now: start) == start + interval)
  }

  /// Milliseconds at which the server ended each, and the age that is left.
  private static let ends: [([UInt32], UInt32)] = [
    ([5000], 3750), ([40_000], 30_000), ([5000, 20_000], 3750), ([5000, 1000], 750),
    ([800], 600), ([100], 500), ([0], 500),
  ]

  @Test(arguments: ends)
  func serverDecidesHowOldTheyBecome(_ ends: [UInt32], _ age: UInt32) {
    var schedule = PoolSchedule(maximum: 8)
    for end in ends { schedule.noteEnd(age: Timeout(milliseconds: end), now: start) }
    #expect(schedule.age == Timeout(milliseconds: age))
  }

  /// A server may have been restarted with other habits.
  @Test func ageGrowsWhileItHolds() {
    var schedule = PoolSchedule(maximum: 8)
    schedule.noteEnd(age: .seconds(5), now: start)
    for _ in 1..<PoolSchedule.agedBeforeLonger { schedule.noteAged() }
    #expect(schedule.age == Timeout(milliseconds: 3750))
    schedule.noteAged()
    #expect(schedule.age == Timeout(milliseconds: 7500))
    for _ in 0..<100 { schedule.noteAged() }
    #expect(schedule.age == PoolSchedule.longestAge)
  }

  @Test func pauseAfterAFailureDoubles() {
    var schedule = PoolSchedule(maximum: 1)
    schedule.noteFlow(ready: 0, now: start)
    for seconds: UInt32 in [1, 2, 4, 8, 16, 30, 30] {
      schedule.noteFailure(now: start)
      let end = start + .seconds(seconds)
      #expect(schedule.missing(beside: 0, now: end - Timeout(milliseconds: 1)) == 0)
      #expect(schedule.missing(beside: 0, now: end) == 1)
      #expect(schedule.nextTurn(now: start) == min(end, start + interval))
    }
    schedule.noteSuccess()
    schedule.noteFailure(now: start)
    #expect(schedule.missing(beside: 0, now: start + PoolSchedule.firstPause) == 1)
  }

  /// One that ends them before they are of any use is not asked over and over.
  @Test func serverThatEndsThemAtOnceIsLeftAlone() {
    var schedule = PoolSchedule(maximum: 1)
    schedule.noteFlow(ready: 0, now: start)
    let early = Timeout(milliseconds: 100)
    for _ in 1..<PoolSchedule.earlyEndsBeforePause { schedule.noteEnd(age: early, now: start) }
    schedule.noteSuccess()
    for _ in 1..<PoolSchedule.earlyEndsBeforePause { schedule.noteEnd(age: early, now: start) }
    for _ in 0..<100 { schedule.noteEnd(age: Timeout(milliseconds: 1000), now: start) }
    #expect(schedule.missing(beside: 0, now: start) == 1)
    schedule.noteEnd(age: early, now: start)
    #expect(schedule.missing(beside: 0, now: start) == 0)
  }
}
