import NFTables
import Netfilter
import RedirectPolicy
import Testing

@testable import Daemon

struct RoutingConflictsTests {
  private static let policy = RedirectPolicy(machine: RedirectPolicy.Machine(.tproxy))

  private func notWell(
    _ rules: [HostNetwork.Rule], _ routes: [IPFamily: Int] = [:]
  ) -> [Finding.Check] {
    RoutingConflicts(Self.policy).findings(rules, routes).filter { $0.verdict != .ok }
      .map(\.check)
  }

  @Test func theKernelsOwnRulesAreNone() {
    let usual: [UInt32] = [0, 32766, 32767]
    #expect(notWell(usual.map { HostNetwork.Rule(.v4, priority: $0) }).isEmpty)
  }

  @Test(arguments: [
    // Fields that share bits with ours.
    (0x1000, 0x1000, true), (0x2000, 0xF000, true), (0, 0x3000, true),
    (0x8_0000, 0xFFFF_F000, true),
    // A whole mark with bits of ours, and some without: WireGuard's among them.
    (0x3000, 0xFFFF_FFFF, true), (0xCA6C, 0xFFFF_FFFF, false), (1, 0xFFFF_FFFF, false),
    // Tailscale, Kubernetes, and a rule that asks for no mark.
    (0x8_0000, 0xFF_0000, false), (0x4000, 0x4000, false), (0, 0, false),
  ])
  func overlaps(_ mark: Int, _ mask: Int, _ isConflict: Bool) {
    let rule = HostNetwork.Rule(
      .v6, priority: 300, mark: UInt32(mark), markMask: UInt32(mask))
    #expect(notWell([rule]) == (isConflict ? [.marks] : []))
  }

  @Test(arguments: [(154, false), (155, true), (157, true), (158, false)])
  func priorities(_ priority: UInt32, _ isConflict: Bool) {
    let rule = HostNetwork.Rule(.v4, priority: priority)
    #expect(notWell([rule]) == (isConflict ? [.rulePriority] : []))
  }

  @Test(arguments: [IPFamily.v4, .v6])
  func routesOfOthers(_ family: IPFamily) {
    #expect(notWell([], [family: 1]) == [.routeTable])
  }

  @Test func advicesNameTheFamily() {
    let rule = HostNetwork.Rule(.v6, priority: 155, mark: 0x1000, markMask: 0x1000)
    for finding in RoutingConflicts(Self.policy).findings([rule], [.v6: 2]) {
      #expect(finding.advice?.contains("ip -6 r") == true)
    }
  }
}
