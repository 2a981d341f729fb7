import LinuxIO
import Testing

@testable import DataPlane

struct FlowIdentifierTests {
  @Test(arguments: [
    ("t0.0.0", FlowIdentifier(.tcp, worker: 0, index: 0, generation: 0)),
    (
      "u255.268435455.4294967295",
      FlowIdentifier(.udp, worker: 255, index: 0xFFF_FFFF, generation: .max)
    ),
  ])
  func text(text: String, flow: FlowIdentifier) {
    #expect("\(flow)" == text)
    #expect(FlowIdentifier(text) == flow)
  }

  @Test(arguments: [
    "", "t", "t1.2", "t1.2.3.4", "x1.2.3", "1.2.3", "t1..3", "t-1.2.3", "t+1.2.3",
    "t1.2.4294967296",
    "t1.268435456.1", "t 1.2.3", "t1.2.3 ", "T1.2.3", "t99999999999999999999.1.1", "t١.2.3",
  ])
  func noFlow(text: String) { #expect(FlowIdentifier(text) == nil) }

  @Test(arguments: [(0, 0), (1, 1), (65_533, 65_533), (65_534, 65_534), (1 << 40, 65_534)])
  func setUpTime(milliseconds: UInt64, told: UInt64) {
    let opened = Instant(milliseconds: 5)
    let time = SetUpTime(from: opened, to: Instant(milliseconds: 5 + milliseconds))
    #expect(time.milliseconds == told)
    #expect(SetUpTime().milliseconds == nil)
  }
}
