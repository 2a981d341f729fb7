import NFTables
import Netfilter
import RedirectPolicy
import Testing

@testable import Daemon

struct GatewayChecksTests {
  private static let here = [
    HostNetwork.Interface("lo"), HostNetwork.Interface("lan0", group: 7),
    HostNetwork.Interface("docker0", isUp: false, isBridge: true),
    HostNetwork.Interface("docker1"),
  ]

  private func checks(_ interfaces: [String], _ groups: [UInt32] = []) throws -> GatewayChecks {
    let gateway = RedirectPolicy.Gateway(
      .tproxy, interfaces: interfaces, interfaceGroups: groups)
    return try #require(
      GatewayChecks(RedirectPolicy(gateway: gateway), interfaces: Self.here, rules: []))
  }

  @Test(arguments: [
    (["lan0"], [], ["lan0"]), (["docker*"], [], ["docker0", "docker1"]), (["docker"], [], []),
    ([], [7], ["lan0"]), (["lo"], [7], ["lo", "lan0"]), (["lan0*"], [], ["lan0"]),
  ])
  func choosesByNameBeginningAndGroup(
    _ interfaces: [String], _ groups: [UInt32], _ chosen: [String]
  ) throws {
    #expect(try checks(interfaces, groups).chosen.map(\.name) == chosen)
  }

  @Test func saysOnceWhatIsThere() throws {
    #expect(
      try checks(["lan0", "docker1"]).presence() == [
        .ok(.interfaces, "there and up: lan0, docker1")
      ])
  }

  @Test(arguments: [
    (["lan9"], [], "lan9"), (["veth*"], [], "veth*"), (["docker*"], [], "docker0 is down"),
    (["lan0"], [8], "group 8"),
  ])
  func namesWhatIsAmiss(_ interfaces: [String], _ groups: [UInt32], _ named: String) throws {
    let findings = try checks(interfaces, groups).presence()
    #expect(findings.count == 1)
    #expect(findings.first?.verdict == .warning)
    #expect(findings.first?.what.contains(named) == true)
  }
}
