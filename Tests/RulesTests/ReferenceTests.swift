import Addressing
import Foundation
import NFTables
import RedirectPolicy
import Testing

/// The rulesets in `nft/` say, without their comments, what the policy says.
struct ReferenceTests {
  @Test(arguments: [
    ("machine-redirect.nft", RedirectPolicy.machine(.redirect)),
    ("machine.nft", .machine(.tproxy)),
    ("machine-closed.nft", .closedMachine),
    ("gateway.nft", .gateway(.tproxy)),
    ("gateway-redirect.nft", .gateway(.redirect)),
    ("selections.nft", .selections),
    ("datagrams.nft", .datagrams),
  ])
  func agreesWithThePolicy(file: String, policy: RedirectPolicy) throws {
    try check(file, [policy.guardTable(), policy.table()].compactMap(\.self))
  }

  @Test func agreesWithTheConfinement() throws {
    let policy = ConfinementPolicy(addresses: addresses("192.0.0.2", "fd73:6c75:6963:65::1"))
    try check("program.nft", [policy.table()])
  }

  private func check(_ file: String, _ tables: [Table]) throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let reference = try String(contentsOf: root.appending(path: "nft/\(file)"), encoding: .utf8)
    let statements = reference.split(separator: "\n", omittingEmptySubsequences: false)
      .filter { !$0.drop(while: \.isWhitespace).hasPrefix("#") }
      .drop(while: \.isEmpty)
    let text = tables.map(\.description).joined(separator: "\n\n") + "\n"
    #expect(statements.joined(separator: "\n") == text)
  }
}

extension RedirectPolicy {
  fileprivate static func machine(_ capture: Capture) -> RedirectPolicy {
    RedirectPolicy(machine: Machine(capture), upstreams: addresses("192.0.2.1"))
  }

  fileprivate static func gateway(_ capture: Capture) -> RedirectPolicy {
    RedirectPolicy(
      gateway: Gateway(capture, interfaces: ["lan0"]), upstreams: addresses("2001:db8::1"))
  }

  fileprivate static var closedMachine: RedirectPolicy {
    var policy = machine(.tproxy)
    policy.exit = .closed
    policy.uncaptured = Uncaptured(.reject)
    return policy
  }

  fileprivate static var datagrams: RedirectPolicy {
    var policy = machine(.redirect)
    policy.exit = .closed
    policy.uncaptured = Uncaptured(.reject, udp: .bypass)
    policy.rejectsQUIC = true
    policy.dns = .everywhere
    return policy
  }

  fileprivate static var selections: RedirectPolicy {
    var policy = machine(.tproxy)
    policy.machine?.users.only = [1000...1999]
    policy.machine?.groups.except = [65534...65534]
    policy.machine?.outputInterfaces.except = ["wg*"]
    var gateway = Gateway(.tproxy, interfaces: ["br-*", "lan0"], interfaceGroups: [7])
    gateway.sources = Choice(only: blocks("11.0.0.0/8"), except: blocks("11.9.0.0/16"))
    gateway.hardwareAddresses.only = [HardwareAddress("02:00:5e:10:00:01")].compactMap(\.self)
    policy.gateway = gateway
    policy.destinations.only = blocks("198.18.0.0/15")
    policy.destinations.bypass = blocks("198.18.7.0/24")
    policy.destinations.onlyPorts = [1...1023]
    policy.destinations.bypassPorts = [22...22]
    policy.uncaptured.udp = .reject
    policy.dns = .everywhere
    policy.uncaptured.ipv6 = .bypass
    return policy
  }
}
