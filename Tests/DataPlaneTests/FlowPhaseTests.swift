import LinuxIO
import Testing

@testable import DataPlane

/// How long the phases of flows take, and how it is counted. What a whole flow leaves is in
/// `UnixUpstreamTests`.
struct FlowPhaseTests {
  private func at(_ microseconds: UInt64) -> ClockReading {
    ClockReading(microseconds: microseconds)
  }

  @Test func boundBelongsToItsBucket() {
    let bounds = PhaseHistogram.bounds
    #expect(bounds == bounds.sorted() && Set(bounds).count == bounds.count)
    for (index, bound) in bounds.enumerated() {
      #expect(PhaseHistogram.bucket(of: UInt64(bound)) == index)
      #expect(PhaseHistogram.bucket(of: UInt64(bound) + 1) == index + 1)
    }
    #expect(PhaseHistogram.bucket(of: 0) == 0)
    #expect(PhaseHistogram.bucket(of: .max) == bounds.count)
  }

  @Test func workersAreAddedUp() {
    let workers = [PhaseHistograms(members: 2), PhaseHistograms(members: 2)]
    workers[0].add(100, to: .connect, of: 0)
    workers[1].add(300, to: .connect, of: 0)
    workers[1].add(40_000_000, to: .firstByte, of: 1)
    var snapshot = Snapshot()
    for worker in workers { worker.read(into: &snapshot) }
    var (connect, firstByte) = (PhaseHistogram(), PhaseHistogram())
    connect.add(100)
    connect.add(300)
    firstByte.add(40_000_000)
    let none = PhaseHistogram()
    #expect(snapshot.phases == [[connect, none, none, none], [none, none, none, firstByte]])
    #expect(connect.microseconds == 400 && connect.counts.reduce(0, +) == 2)
  }

  @Test func phasesFollowOneAnother() {
    var timing = HandshakeTiming()
    timing.begin(.connect, at: at(1_000))
    #expect(timing.present == .connect)
    #expect(timing.end(as: .connect, at: at(3_500)) == 2_500)
    timing.begin(.authentication, at: at(3_500))
    #expect(timing.end(as: .authentication, at: at(3_500)) == 0)
    timing.begin(.request, at: at(3_500))
    #expect(timing.request == nil)
    #expect(timing.end(as: .request, at: at(4_000)) == 500)
    #expect(timing.present == nil)
    #expect(timing.connect == 2_500 && timing.authentication == 0 && timing.request == 500)
  }

  /// Whatever is answered along with the request.
  @Test func phaseMayTurnOutToHaveBeenAnother() {
    var timing = HandshakeTiming()
    timing.begin(.authentication, at: at(10))
    #expect(timing.end(as: .request, at: at(30)) == 20)
    #expect(timing.authentication == nil && timing.request == 20)
  }

  @Test(arguments: [0, 63, 64, 5_000_000, UInt64(UInt32.max) << 6, 1 << 62])
  func stampsMeasureAcrossTheirEnd(start: UInt64) {
    let since = at(start).stamp
    for duration in [0, 64, 1_000_000, 86_400_000_000] as [UInt64] {
      let measured = at(start + duration).microseconds(since: since)
      #expect(measured <= duration + 64 && measured + 128 > duration)
      #expect(at(start + duration).stamp != .none)
    }
  }
}
