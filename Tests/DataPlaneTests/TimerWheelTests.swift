import LinuxIO
import TestSupport
import Testing

@testable import DataPlane

/// A list that is searched whole each time: slow and obviously right.
private struct TimerList {
  var deadlines: [Int: UInt64] = [:]

  /// The identifiers that are due at `now`, in ascending order of deadline.
  mutating func takeDue(_ now: UInt64) -> Set<Int> {
    let due = Set(deadlines.filter { $0.value <= now }.keys)
    for id in due { deadlines[id] = nil }
    return due
  }
}

extension TimerWheel {
  fileprivate mutating func takeDue(_ now: UInt64) -> Set<Int> {
    var due: Set<Int> = []
    while let id = next(now: Instant(milliseconds: now)) { due.insert(id) }
    return due
  }
}

struct TimerWheelTests {
  /// Random schedules, cancellations and steps of time agree with the list, across all levels and
  /// for clocks that start near the wrap of the lower levels.
  @Test(arguments: [0, 4095, 1 << 24 - 3, 1 << 36 - 5, 987_654_321_012] as [UInt64])
  func agreesWithAList(start: UInt64) {
    var random = SplitMix(seed: start &+ 7)
    var wheel = TimerWheel(now: Instant(milliseconds: start))
    var list = TimerList()
    var now = start
    for _ in 0..<60_000 {
      switch random.next(below: 10) {
      case 0..<6:
        let id = Int(random.next(below: 200))
        // Spread evenly over magnitudes: from the past to forty days ahead.
        let span = 1 &<< random.next(below: 32)
        let deadline = now &+ random.next(below: span + 1) - min(now, random.next(below: 3))
        wheel.schedule(id, at: Instant(milliseconds: deadline))
        list.deadlines[id] = deadline
      case 6:
        let id = Int(random.next(below: 200))
        wheel.cancel(id)
        list.deadlines[id] = nil
      default:
        now += random.next(below: 1 &<< random.next(below: 28))
        let due = wheel.takeDue(now)
        #expect(due == list.takeDue(now))
      }
      if let expiry = wheel.nextExpiry {
        let earliest = list.deadlines.values.min() ?? 0
        #expect(expiry.milliseconds <= max(earliest, now))
      } else {
        #expect(list.deadlines.isEmpty)
      }
    }
  }

  /// Sleeping until `nextExpiry` again and again reaches a far deadline in a few wakes: an idle loop
  /// does not tick.
  @Test func sleepsLong() {
    var wheel = TimerWheel(now: Instant(milliseconds: 12_345))
    let deadline: UInt64 = 12_345 + 7_440_000
    wheel.schedule(3, at: Instant(milliseconds: deadline))
    var wakes = 0
    while let expiry = wheel.nextExpiry {
      wakes += 1
      let due = wheel.next(now: expiry)
      if let due {
        #expect(due == 3)
        #expect(expiry.milliseconds == deadline)
      }
    }
    #expect(wakes <= 6)
  }

  @Test func rescheduledFromItsOwnExpiry() {
    var wheel = TimerWheel(now: Instant(milliseconds: 0))
    wheel.schedule(0, at: Instant(milliseconds: 5))
    let early = wheel.next(now: Instant(milliseconds: 4))
    let first = wheel.next(now: Instant(milliseconds: 5))
    wheel.schedule(0, at: Instant(milliseconds: 5))
    let second = wheel.next(now: Instant(milliseconds: 5))
    let expiry = wheel.nextExpiry
    #expect(early == nil)
    #expect(first == 0)
    #expect(second == 0)
    #expect(expiry == nil)
  }
}
