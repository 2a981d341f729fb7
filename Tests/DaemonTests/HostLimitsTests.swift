import Testing

@testable import Daemon

struct HostLimitsTests {
  private static let conntrack: [(count: Int?, maximum: Int?, verdict: Finding.Verdict)] = [
    (0, 262_144, .ok), (80, 100, .ok), (81, 100, .warning), (100, 100, .warning), (5, 0, .ok),
    (nil, nil, .ok), (nil, 100, .ok),
  ]

  @Test(arguments: conntrack)
  func conntrackWarnsAboveEightyPercent(
    _ one: (count: Int?, maximum: Int?, verdict: Finding.Verdict)
  ) {
    let finding = HostLimits.conntrack(count: one.count, maximum: one.maximum)
    #expect(finding.verdict == one.verdict)
  }

  @Test func conntrackAdvisesALargerLimit() {
    let advice = HostLimits.conntrack(count: 900, maximum: 1000).advice
    #expect(advice == "sysctl -w net.netfilter.nf_conntrack_max=2000")
  }

  private static let limits: [(hard: Int?, verdict: Finding.Verdict)] = [
    (1024, .warning), (4095, .warning), (4096, .ok), (1_048_576, .ok), (nil, .ok),
  ]

  @Test(arguments: limits)
  func descriptors(_ one: (hard: Int?, verdict: Finding.Verdict)) {
    #expect(HostLimits.descriptors(hard: one.hard).verdict == one.verdict)
  }
}
