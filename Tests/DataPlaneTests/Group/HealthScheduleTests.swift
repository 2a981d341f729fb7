import LinuxIO
import Testing

@testable import DataPlane

struct HealthScheduleTests {
  private let start = Instant(milliseconds: 1_000_000)
  private static let interval = Timeout.seconds(30)

  private func schedule() -> HealthSchedule {
    HealthSchedule(MemberSet(count: 2), interval: Self.interval, now: start, chance: 0)
  }

  private func milliseconds(until instant: Instant?, from now: Instant) -> UInt64? {
    instant.map { $0.milliseconds(since: now) }
  }

  @Test func livingOnesAreAskedNowAndThen() {
    var schedule = schedule()
    #expect(schedule.takeDue(now: start) == [])
    let due = start + Self.interval
    #expect(schedule.nextQuestion == due)
    #expect(schedule.takeDue(now: due) == [0, 1])
    #expect(schedule.takeDue(now: due) == [] && schedule.nextQuestion == nil)
    schedule.handleAnswer(of: 1, isUp: true, now: due, chance: 0)
    #expect(schedule.nextQuestion == due + Self.interval)
    #expect(!schedule.isDown(0) && !schedule.isDown(1))
  }

  @Test func onlyTheListedAreAsked() {
    var schedule = HealthSchedule(
      MemberSet([1, 15]), interval: Self.interval, now: start, chance: 0)
    #expect(schedule.takeDue(now: start + Self.interval) == [1, 15])
    #expect(schedule.nextQuestion == nil)
  }

  @Test func doubtfulOneIsAskedAtOnceAndStays() {
    var schedule = schedule()
    schedule.doubt(1, now: start)
    #expect(!schedule.isDown(1))
    #expect(schedule.takeDue(now: start) == [1])
    schedule.handleAnswer(of: 1, isUp: false, now: start, chance: 0)
    #expect(schedule.isDown(1) && !schedule.isDown(0))
  }

  /// However many flows fail, they do not make it be asked again and again.
  @Test func doubtWaitsWhereItHasJustAnswered() {
    var schedule = schedule()
    schedule.doubt(0, now: start)
    #expect(schedule.takeDue(now: start) == [0])
    schedule.handleAnswer(of: 0, isUp: true, now: start, chance: 0)
    schedule.doubt(0, now: start)
    #expect(schedule.takeDue(now: start) == [])
    #expect(schedule.nextQuestion == start + HealthSchedule.firstPause)
    #expect(schedule.takeDue(now: start + HealthSchedule.firstPause) == [0])
  }

  /// Half a second, twice as long each time, and no longer than half a minute.
  @Test func pauseDoubles() {
    var schedule = schedule()
    var now = start
    schedule.takeOut(0, now: now, chance: 0)
    for pause in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] as [UInt64] {
      #expect(milliseconds(until: schedule.nextQuestion, from: now) == pause)
      #expect(schedule.takeDue(now: now) == [])
      now = now + Timeout(milliseconds: UInt32(pause))
      #expect(schedule.takeDue(now: now).contains(0))
      schedule.handleAnswer(of: 0, isUp: false, now: now, chance: 0)
      // The other one's questions are none of this.
      schedule.handleAnswer(of: 1, isUp: true, now: now, chance: 0)
    }
  }

  @Test(arguments: [(0, 500), (255, 375), (128, 438)] as [(UInt8, UInt64)])
  func chanceShortensThePause(chance: UInt8, pause: UInt64) {
    var schedule = schedule()
    schedule.takeOut(0, now: start, chance: chance)
    #expect(milliseconds(until: schedule.nextQuestion, from: start) == pause)
  }

  @Test func answerBringsBack() {
    var schedule = schedule()
    schedule.takeOut(0, now: start, chance: 0)
    let later = start + HealthSchedule.firstPause
    #expect(schedule.takeDue(now: later) == [0])
    schedule.handleAnswer(of: 0, isUp: true, now: later, chance: 0)
    #expect(!schedule.isDown(0))
    schedule.takeOut(0, now: later, chance: 0)
    schedule.bringBack(0, now: later, chance: 0)
    #expect(!schedule.isDown(0))
  }

  /// One that answers and fails flows again is left alone for longer each time; after a while without
  /// failures it begins anew.
  @Test(arguments: [(0, 1_000), (59_999, 1_000), (60_000, 500)] as [(UInt32, UInt64)])
  func earlierFailuresCountDuringProbation(after: UInt32, pause: UInt64) {
    var schedule = schedule()
    schedule.takeOut(0, now: start, chance: 0)
    schedule.bringBack(0, now: start, chance: 0)
    let again = start + Timeout(milliseconds: after)
    schedule.takeOut(0, now: again, chance: 0)
    _ = schedule.takeDue(now: again)
    schedule.handleAnswer(of: 1, isUp: true, now: again, chance: 0)
    #expect(milliseconds(until: schedule.nextQuestion, from: again) == pause)
  }

  /// However many flows find it out.
  @Test func isTakenOutOnce() {
    var schedule = schedule()
    for _ in 0..<100 { schedule.takeOut(0, now: start, chance: 0) }
    #expect(milliseconds(until: schedule.nextQuestion, from: start) == 500)
  }

  @Test(arguments: [(0, 30_000), (255, 22_500)] as [(UInt8, UInt64)])
  func chanceShortensTheInterval(chance: UInt8, interval: UInt64) {
    var schedule = HealthSchedule(
      MemberSet(count: 1), interval: Self.interval, now: start, chance: chance)
    #expect(milliseconds(until: schedule.nextQuestion, from: start) == interval)
    schedule.doubt(0, now: start)
    #expect(schedule.takeDue(now: start) == [0])
    schedule.handleAnswer(of: 0, isUp: true, now: start, chance: chance)
    #expect(milliseconds(until: schedule.nextQuestion, from: start) == interval)
  }

  /// Without an interval only doubt makes one be asked, and then its absence.
  @Test func neverAskedWithoutDoubt() {
    var schedule = HealthSchedule(MemberSet(count: 1), interval: nil, now: start, chance: 0)
    #expect(schedule.nextQuestion == .distantFuture)
    schedule.doubt(0, now: start)
    #expect(schedule.takeDue(now: start) == [0])
    schedule.handleAnswer(of: 0, isUp: true, now: start, chance: 0)
    #expect(schedule.nextQuestion == .distantFuture)
    schedule.takeOut(0, now: start, chance: 0)
    #expect(milliseconds(until: schedule.nextQuestion, from: start) == 500)
    schedule.bringBack(0, now: start, chance: 0)
    #expect(schedule.nextQuestion == .distantFuture)
  }

  /// It is out after so many questions without an answer in between, which follow one another soon.
  @Test func toleranceOfFailures() {
    var schedule = HealthSchedule(
      MemberSet(count: 1), interval: Self.interval, tolerance: 3, now: start, chance: 0)
    var now = start + Self.interval
    for answers in [[false, false, true], [false, false, false]] {
      for isUp in answers {
        #expect(!schedule.isDown(0))
        #expect(schedule.takeDue(now: now) == [0])
        schedule.handleAnswer(of: 0, isUp: isUp, now: now, chance: 0)
        let pause = milliseconds(until: schedule.nextQuestion, from: now)
        #expect(pause == (isUp ? 30_000 : 500))
        now = now + (isUp ? Self.interval : HealthSchedule.firstPause)
      }
    }
    #expect(schedule.isDown(0))
  }
}
