import LinuxIO
import Testing

@testable import Daemon

struct RateMeterTests {
  private static func at(_ seconds: Double) -> Instant {
    Instant(milliseconds: 1_000_000 + UInt64(seconds * 1000))
  }

  @Test func nothingHasGrown() {
    let meter = RateMeter(start: Self.at(0))
    #expect(meter.rates(of: .init(), at: Self.at(0)) == .init())
    #expect(meter.rates(of: .init(), at: Self.at(5)) == .init())
  }

  @Test func rateSinceTheStart() {
    let meter = RateMeter(start: Self.at(0))
    let totals = RateMeter.Totals(sessions: 3, sent: 4096, received: 1)
    #expect(
      meter.rates(of: totals, at: Self.at(4)) == .init(sessions: 0.8, sent: 1024, received: 0.3))
  }

  @Test func sampleIsDueAfterTwoSeconds() {
    var meter = RateMeter(start: Self.at(0))
    #expect(!meter.isDue(at: Self.at(1.999)))
    #expect(meter.isDue(at: Self.at(2)))
    meter.note(.init(), at: Self.at(2.5))
    #expect(!meter.isDue(at: Self.at(4.499)))
    #expect(meter.isDue(at: Self.at(4.5)))
  }

  @Test func whatIsLongAgoIsForgotten() {
    var meter = RateMeter(start: Self.at(0))
    // A burst, and then nothing more.
    let totals = RateMeter.Totals(sessions: 600, sent: 0, received: 0)
    for second in stride(from: 2.0, through: 10, by: 2) {
      meter.note(totals, at: Self.at(second))
      #expect(
        meter.rates(of: totals, at: Self.at(second)).sessions == (600 / second * 10).rounded() / 10)
    }
    meter.note(totals, at: Self.at(12))
    #expect(meter.rates(of: totals, at: Self.at(12)).sessions == 0)
  }
}
