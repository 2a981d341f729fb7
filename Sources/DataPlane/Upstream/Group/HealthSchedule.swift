package import LinuxIO

/// When which member of a group is asked whether it answers: one that lives now and then, one that is in
/// doubt at once, and one that is out after a while that grows with each failure.
///
///     up ──(doubted, or the interval is over)──▶ asked ──answers, or may fail once more──▶ up
///      └──(taken out)──▶ down ──(pause)──▶ asked ──does not──▶ down, twice the pause
///
/// One that fails again soon after its return goes on with the pause that it had.
struct HealthSchedule {
  /// Between two questions to one that is out, the first time and at most, shortened at random.
  static let firstPause = Timeout(milliseconds: 500)
  static let longestPause = Timeout.seconds(30)
  /// How long one must have been up for its earlier failures to be forgotten.
  static let probation = Timeout.seconds(60)

  private struct Member {
    var isDown = false
    var isAsked = false
    /// Questions without an answer since it was last known to live.
    var missCount = 0
    /// Failures without a probation between them.
    var failureCount = 0
    var upSince: Instant
    var lastAnswer = Instant(milliseconds: 0)
    var nextQuestion: Instant
  }

  /// By slot, whether it is asked or not.
  private var members: [Member]
  private let listed: [Int]
  /// Between two questions to one that lives, of which a random part of up to a quarter is taken off; nil: it
  /// is not asked unless it is in doubt.
  private let interval: Timeout?
  /// So many questions without an answer take one out.
  private let tolerance: Int

  /// - Parameters:
  ///   - listed: those that are asked.
  ///   - chance: 0 to 255.
  init(
    _ listed: MemberSet, interval: Timeout?, tolerance: Int = 1, now: Instant, chance: UInt8
  ) {
    self.interval = interval
    self.tolerance = tolerance
    members = Array(
      repeating: Member(upSince: now, nextQuestion: .distantFuture),
      count: MemberSet.maximumMembers)
    self.listed = members.indices.filter(listed.contains)
    for member in self.listed { scheduleNext(member, now: now, chance: chance) }
  }

  private mutating func scheduleNext(_ member: Int, now: Instant, chance: UInt8) {
    members[member].nextQuestion =
      interval.map { now + $0.shortened(by: chance) } ?? .distantFuture
  }

  func isDown(_ member: Int) -> Bool { members[member].isDown }

  /// A flow has found out that a member is down.
  /// - Parameter chance: 0 to 255.
  mutating func takeOut(_ member: Int, now: Instant, chance: UInt8) {
    guard !members[member].isDown else { return }
    if members[member].upSince + Self.probation <= now { members[member].failureCount = 0 }
    members[member].isDown = true
    members[member].missCount = 0
    postpone(member, now: now, chance: chance)
  }

  /// A flow failed in a way that may be the member's fault: it is asked at once, unless it has just answered.
  mutating func doubt(_ member: Int, now: Instant) {
    guard !members[member].isDown else { return }
    let next = max(now, members[member].lastAnswer + Self.firstPause)
    members[member].nextQuestion = min(members[member].nextQuestion, next)
  }

  /// A flow has got through: what is out is back.
  mutating func bringBack(_ member: Int, now: Instant, chance: UInt8) {
    guard members[member].isDown else { return }
    members[member].isDown = false
    members[member].upSince = now
    scheduleNext(member, now: now, chance: chance)
  }

  /// The members to be asked now, each of which has an answer to come.
  mutating func takeDue(now: Instant) -> [Int] {
    let due = listed.filter { !members[$0].isAsked && members[$0].nextQuestion <= now }
    for member in due { members[member].isAsked = true }
    return due
  }

  /// A member was asked.
  mutating func handleAnswer(of member: Int, isUp: Bool, now: Instant, chance: UInt8) {
    members[member].isAsked = false
    members[member].lastAnswer = now
    switch (members[member].isDown, isUp) {
    case (false, true):
      members[member].missCount = 0
      scheduleNext(member, now: now, chance: chance)
    case (true, true): bringBack(member, now: now, chance: chance)
    case (false, false):
      members[member].missCount += 1
      if members[member].missCount >= tolerance {
        takeOut(member, now: now, chance: chance)
      } else {
        members[member].nextQuestion = now + Self.firstPause.shortened(by: chance)
      }
    case (true, false): postpone(member, now: now, chance: chance)
    }
  }

  /// When somebody is to be asked next; nil while all answers are to come.
  var nextQuestion: Instant? {
    listed.lazy.map { members[$0] }.filter { !$0.isAsked }.map(\.nextQuestion).min()
  }

  private mutating func postpone(_ member: Int, now: Instant, chance: UInt8) {
    let doublings = UInt32(min(members[member].failureCount, 16))
    let pause = min(
      UInt64(Self.firstPause.milliseconds) << UInt64(doublings),
      UInt64(Self.longestPause.milliseconds))
    members[member].failureCount += 1
    members[member].nextQuestion =
      now + Timeout(milliseconds: UInt32(pause)).shortened(by: chance)
  }
}

extension Timeout {
  /// Less a random part of up to a quarter, so that many of us do not ask together.
  /// - Parameter chance: 0 to 255.
  package func shortened(by chance: UInt8) -> Timeout {
    Timeout(
      milliseconds: milliseconds - UInt32(UInt64(milliseconds) / 4 * UInt64(chance) / 255))
  }
}
