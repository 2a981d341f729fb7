import Addressing
import LinuxIO
import Testing

@testable import DataPlane

struct DatagramVerdictsTests {
  private let verdict = Policy.Verdict(decision: .reject, rule: RuleNumber(0))

  private func at(_ port: Int) -> SocketAddress { SocketAddress(.v4(.loopback), UInt16(port)) }

  @Test func standForAWhile() {
    var verdicts = DatagramVerdicts()
    let start = Instant(milliseconds: 1000)
    verdicts.note(verdict, at(1), at(2), now: start)
    let soon = start + Timeout.seconds(4)
    let (known, other) = (
      verdicts.find(at(1), at(2), now: soon), verdicts.find(at(2), at(1), now: soon)
    )
    #expect(known == verdict && other == nil)
    let late = verdicts.find(at(1), at(2), now: start + DatagramVerdicts.lifetime)
    #expect(late == nil)
  }

  @Test func areBounded() {
    var verdicts = DatagramVerdicts()
    let now = Instant(milliseconds: 1000)
    for port in 0...DatagramVerdicts.maximumVerdicts {
      verdicts.note(verdict, at(port), at(1), now: now)
    }
    let (first, last) = (
      verdicts.find(at(0), at(1), now: now),
      verdicts.find(at(DatagramVerdicts.maximumVerdicts), at(1), now: now)
    )
    #expect(first == nil && last == verdict)
    verdicts.removeAll()
    let none = verdicts.find(at(DatagramVerdicts.maximumVerdicts), at(1), now: now)
    #expect(none == nil)
  }
}
