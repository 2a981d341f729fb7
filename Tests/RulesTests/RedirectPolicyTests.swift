import Addressing
import NFTables
import RedirectPolicy
import Testing

struct RedirectPolicyTests {
  private static let captures: [RedirectPolicy.Capture?] = [nil, .redirect, .tproxy]

  /// Every combination of scopes, captures and phases.
  private static let all: [RedirectPolicy] = captures.flatMap { machine in
    captures.flatMap { gateway in
      [RedirectPolicy.Phase.capturing, .draining].map { phase in
        var policy = RedirectPolicy(machine: machine, phase: phase)
        policy.gateway = gateway.map {
          RedirectPolicy.Gateway(interfaces: ["lan0", "lan1"], capture: $0)
        }
        return policy
      }
    }
  }

  @Test(arguments: all)
  func everyBaseChainLeavesTheDaemonAlone(_ policy: RedirectPolicy) {
    let own = MaskedMark(RedirectPolicy.Mark.own, mask: RedirectPolicy.Mark.mask)
    for chain in policy.table().chains where chain.base != nil {
      #expect(chain.rules.first == Rule(.mark(MarkMatch(.packet, own)), .verdict(.return)))
    }
  }

  /// Without a rule that needs it the kernel ends connection tracking, and NAT of open flows with it.
  @Test(arguments: all)
  func everyNATChainKeepsConnectionTracking(_ policy: RedirectPolicy) {
    for chain in policy.table().chains where chain.base?.kind == .nat {
      #expect(chain.rules.flatMap(\.expressions).contains(.direction(.reply)))
    }
  }

  /// What rules name is in the table, and before them: chains first, so that every jump finds its goal.
  @Test(arguments: all)
  func everyNameIsDefined(_ policy: RedirectPolicy) {
    let table = policy.table()
    let sets = Set(table.sets.map(\.name))
    var chains = Set<String>()
    for chain in table.chains {
      for expression in chain.rules.flatMap(\.expressions) {
        switch expression {
        case .verdict(.jump(let name)), .verdict(.goto(let name)): #expect(chains.contains(name))
        case .address(let lookup): #expect(sets.contains(lookup.set))
        case .addressType(let lookup): #expect(sets.contains(lookup.set))
        case .interface(let match):
          if case .set(let name) = match.operand { #expect(sets.contains(name)) }
        default: break
        }
      }
      chains.insert(chain.name)
    }
  }

  /// NAT of open connections needs its chains, and `tproxy` has to go on marking their packets.
  @Test(arguments: all)
  func drainingKeepsTheChainsAndCapturesNothingNew(_ policy: RedirectPolicy) {
    var capturing = policy
    var draining = policy
    capturing.phase = .capturing
    draining.phase = .draining
    func bases(_ policy: RedirectPolicy) -> [String] {
      policy.table().chains.filter { $0.base != nil }.map {
        "\($0.name): \($0.base.debugDescription)"
      }
    }
    #expect(bases(capturing) == bases(draining))
    #expect(capturing.routing() == draining.routing())
    let rules = draining.table().chains.flatMap(\.rules)
    #expect(
      !rules.contains { rule in
        rule.expressions.contains { expression in
          switch expression {
          case .redirect: true
          case .setMark(let assignment): assignment.holder == .connection
          default: false
          }
        }
      })
  }

  @Test func nothingToCaptureIsAnInertTable() {
    let table = RedirectPolicy().table()
    #expect(table.chains.allSatisfy { $0.base == nil })
    #expect(RedirectPolicy().routing() == RoutingPlan(rules: [], routes: []))
  }

  @Test(arguments: [
    ("10.0.0.1", false), ("172.31.255.255", false), ("192.168.1.1", false),
    ("100.64.0.1", false), ("fd00::1", false),
    ("11.0.0.1", true), ("172.32.0.1", true), ("100.128.0.1", true), ("2001:db8::1", true),
  ])
  func privateRangesAreCapturedOnDemand(_ text: String, isPublic: Bool) throws {
    let address = try #require(IPAddress(text))
    #expect(bypasses(RedirectPolicy(machine: .redirect), address) == !isPublic)
    #expect(!bypasses(RedirectPolicy(machine: .redirect, proxyPrivate: true), address))
  }

  @Test(arguments: [
    "0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1", "239.255.255.255", "255.255.255.255", "::",
    "::1", "fe80::1", "ff02::1",
  ])
  func scopedRangesAreNeverCaptured(_ text: String) throws {
    let address = try #require(IPAddress(text))
    #expect(bypasses(RedirectPolicy(machine: .tproxy, proxyPrivate: true), address))
  }

  @Test func usersRangesAreAdded() throws {
    let block = try #require(CIDR("203.0.113.0/24"))
    let policy = RedirectPolicy(machine: .redirect, bypass: [block])
    #expect(bypasses(policy, try #require(IPAddress("203.0.113.200"))))
    #expect(!bypasses(policy, try #require(IPAddress("203.0.114.0"))))
  }

  @Test func routesWhatTproxyMarks() {
    let mark = MaskedMark(RedirectPolicy.Mark.tproxy, mask: RedirectPolicy.Mark.mask)
    let gateway = RedirectPolicy.Gateway(interfaces: ["lan0", "lan1", "lan0"], capture: .tproxy)
    let both = RedirectPolicy(machine: .tproxy, gateway: gateway).routing()
    let interfaces = ["lo", "lan0", "lan1"]
    #expect(
      both.rules
        == [IPFamily.v4, .v6].flatMap { family in
          interfaces.map { RoutingPlan.Rule(family, inputInterface: $0, mark: mark) }
        })
    #expect(both.routes == [RoutingPlan.Route(.v4), RoutingPlan.Route(.v6)])
    let mixed = RedirectPolicy(machine: .redirect, gateway: gateway).routing()
    #expect(mixed.rules.map(\.inputInterface) == ["lan0", "lan1", "lan0", "lan1"])
  }

  private func bypasses(_ policy: RedirectPolicy, _ address: IPAddress) -> Bool {
    policy.table().sets.contains { set in
      guard case .ranges(_, let ranges) = set.elements else { return false }
      return ranges.contains { $0.contains(address) }
    }
  }
}

extension AddressRange {
  fileprivate func contains(_ address: IPAddress) -> Bool {
    address.isIPv4 == first.isIPv4
      && !address.bytes.lexicographicallyPrecedes(first.bytes)
      && !last.bytes.lexicographicallyPrecedes(address.bytes)
  }
}
