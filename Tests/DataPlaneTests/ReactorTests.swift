import Addressing
import LinuxIO
import Testing

@testable import DataPlane

struct BudgetTests {
  @Test func refusesPastTheLimitAndTakesBack() {
    let budget = DescriptorBudget(limit: 10)
    #expect(budget.take(8))
    #expect(!budget.take(4))
    #expect(budget.take(2))
    #expect(!budget.take(1))
    budget.giveBack(4)
    #expect(budget.take(4))
  }

  /// Captured flows leave the other half to the embedded server.
  @Test func halfIsReserved() {
    let budget = DescriptorBudget(limit: 10)
    #expect(budget.take(4, share: .half))
    #expect(!budget.take(2, share: .half))
    #expect(budget.take(6))
  }
}

struct ClientQuotaTests {
  @Test func oneClientDoesNotTakeTheRoomOfAnother() {
    let (greedy, modest) = (IPAddress.v4(.loopback), IPAddress.v6(.loopback))
    var quota = ClientQuota()
    for _ in 0..<ClientQuota.maximumQueries {
      let isTaken = quota.take(greedy)
      #expect(isTaken)
    }
    let isExceeded = !quota.take(greedy)
    #expect(isExceeded)
    let isTaken = quota.take(modest)
    #expect(isTaken)
    quota.giveBack(greedy)
    let isTakenAgain = quota.take(greedy)
    #expect(isTakenAgain)
  }
}

struct ProblemLimiterTests {
  /// However often a loop goes round, its cause is told once per interval; another one at once.
  @Test func tellsEachCauseOncePerInterval() {
    var limiter = ProblemLimiter()
    let start = Instant(milliseconds: 1000)
    let program = LoopCause.upstreamProgram(name: "proxy", processID: 7)
    var told: [Bool] = []
    for cause in [LoopCause.ourselves, .ourselves, program, .ourselves, program] {
      told.append(limiter.isDue(cause, now: start))
    }
    #expect(told == [true, false, true, false, false])
    let isDueLater = limiter.isDue(.ourselves, now: start + ProblemLimiter.interval)
    #expect(isDueLater)
  }

  @Test func tellsAtOnceThenOncePerInterval() {
    var limiter = ProblemLimiter()
    let start = Instant(milliseconds: 1_000_000)
    #expect(limiter.note(.connectRefused, now: start) == 1)
    for _ in 0..<5 { #expect(limiter.note(.connectRefused, now: start) == nil) }
    #expect(limiter.note(.handshakeTimeout, now: start) == 1)
    #expect(limiter.note(.connectRefused, now: start + ProblemLimiter.interval) == 6)
  }
}

struct FailureTests {
  @Test func namesAreDistinctAndSnakeCase() {
    let names = Failure.allCases.map(\.name)
    #expect(Set(names).count == names.count)
    for name in names { #expect(name.allSatisfy { $0.isLowercase || $0 == "_" }) }
  }
}

struct DatagramDropTests {
  @Test func namesAreDistinctAndSnakeCase() {
    let names = DatagramDrop.allCases.map(\.name)
    #expect(Set(names).count == names.count)
    for name in names { #expect(name.allSatisfy { $0.isLowercase || $0 == "_" }) }
  }

  @Test func everyCellIsItsOwn() {
    let counters = Counters()
    for (index, counter) in Counter.allCases.enumerated() { counters.add(1 + index, to: counter) }
    for failure in Failure.allCases { counters.add(failure) }
    for (index, drop) in DatagramDrop.allCases.enumerated() {
      counters.add(drop, count: 100 + index)
    }
    var snapshot = Snapshot()
    counters.read(into: &snapshot)
    #expect(
      Counter.allCases.map { snapshot[$0] } == Counter.allCases.indices.map { UInt64(1 + $0) })
    #expect(Failure.allCases.allSatisfy { snapshot[$0] == 1 })
    #expect(
      DatagramDrop.allCases.map { snapshot[$0] }
        == DatagramDrop.allCases.indices.map { UInt64(100 + $0) })
  }
}
