import NFTables
import Netfilter
import RedirectPolicy
import Testing

@testable import Daemon

struct SurroundingsTests {
  private typealias Rule = HostNetwork.Rule

  @Test func theUsualNumbersWhereNobodyUsesThem() {
    #expect(Surroundings(rules: []).numbers == Numbers())
    let wireGuard = Rule(.v4, priority: 32764, mark: 0xCA6C, markMask: .max)
    let tailscale = Rule(.v4, priority: 5210, mark: 0x80000, markMask: 0xFF0000)
    #expect(Surroundings(rules: [wireGuard, tailscale]).numbers == Numbers())
  }

  @Test(
    arguments: [
      ([0x1000], 0x30), ([0xF000], 0x30), ([0x3000, 0x10], 0x3), ([0x2000, 0xFF], 0x300),
      ([0x7FFF_FFFF], 0x3000),
    ] as [([UInt32], UInt32)])
  func otherBitsWhereThoseAreTaken(masks: [UInt32], expected: UInt32) {
    let rules = masks.map { Rule(.v6, priority: 9, mark: $0, markMask: $0) }
    #expect(Surroundings(rules: rules).numbers.marks.mask == expected)
  }

  @Test(
    arguments: [
      ([155], 156), ([157], 158), ([154, 158], 155), ([155, 158, 161], 162),
    ] as [([UInt32], UInt32)])
  func threeFreePrioritiesInARow(taken: [UInt32], expected: UInt32) {
    let rules = taken.map { Rule(.v4, priority: $0) }
    #expect(Surroundings(rules: rules).numbers.rulePriority == expected)
  }

  @Test func anotherTableWhereRoutesAreInIt() {
    #expect(Surroundings(rules: [], usedTables: [155, 156]).numbers.routeTable == 157)
  }

  @Test(
    arguments: [
      (["br-*"], [UInt32](), "br-0"), (["br-0"], [], "br-0"), (["lan0"], [], nil),
      (["lan*"], [7], "br-0"), ([], [8], nil),
    ] as [([String], [UInt32], String?)])
  func bridgesUnderTheFilter(names: [String], groups: [UInt32], found: String?) {
    let interfaces = [
      HostNetwork.Interface("lan0"), HostNetwork.Interface("br-0", group: 7, isBridge: true),
    ]
    let gateway = RedirectPolicy.Gateway(.tproxy, interfaces: names, interfaceGroups: groups)
    func bridge(_ isFiltering: Bool) -> String? {
      Surroundings(rules: [], interfaces: interfaces, filtersBridges: isFiltering)
        .filteredBridge(of: gateway)
    }
    #expect(bridge(true) == found)
    #expect(bridge(false) == nil)
  }
}
