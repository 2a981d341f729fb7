import Addressing
import NFTables
import RedirectPolicy
import Testing

struct RedirectPolicyTests {
  private static let captures: [RedirectPolicy.Capture?] = [nil, .redirect, .tproxy]

  /// Every combination of scopes, captures, exits and phases, with every choice and without.
  private static let all: [RedirectPolicy] = captures.flatMap { machine in
    captures.flatMap { gateway in
      [RedirectPolicy.Phase.capturing, .draining, .suspended].flatMap { phase in
        [RedirectPolicy.Exit.open, .closed].flatMap { exit in
          [false, true].map { isChosen in
            var policy = RedirectPolicy(
              machine: machine.map { RedirectPolicy.Machine($0) },
              gateway: gateway.map {
                RedirectPolicy.Gateway($0, interfaces: ["lan0", "lan1"])
              })
            policy.phase = phase
            policy.exit = exit
            if isChosen { policy.chooseEverything() }
            return policy
          }
        }
      }
    }
  }

  @Test(arguments: all)
  func everyBaseChainLeavesTheDaemonAlone(_ policy: RedirectPolicy) {
    let own = Expression.mark(MarkMatch(.packet, policy.numbers.marks.own))
    for chain in policy.everyChain where chain.base != nil {
      #expect(chain.rules.first?.expressions == [own, .verdict(.return)])
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
  /// Nothing else is in it.
  @Test(arguments: all)
  func everyNameIsDefined(_ policy: RedirectPolicy) {
    for table in policy.everyTable {
      let sets = Set(table.sets.map(\.name))
      var named = Set<String>()
      var chains = Set<String>()
      for chain in table.chains {
        #expect(!chains.contains(chain.name))
        for expression in chain.rules.flatMap(\.expressions) {
          if case .verdict(.jump(let name)) = expression { #expect(chains.contains(name)) }
          if case .verdict(.goto(let name)) = expression { #expect(chains.contains(name)) }
          if let set = expression.set { named.insert(set) }
        }
        chains.insert(chain.name)
      }
      #expect(sets == named)
    }
  }

  @Test(arguments: all)
  func commentsFitIntoTheKernel(_ policy: RedirectPolicy) {
    for comment in policy.everyChain.flatMap(\.rules).compactMap(\.comment) {
      #expect(comment.utf8.count <= Rule.maximumCommentBytes && !comment.contains("\""))
    }
  }

  /// NAT of open connections needs its chains, and `tproxy` has to go on marking their packets.
  @Test(arguments: all)
  func drainingKeepsTheChainsAndCapturesNothingNew(_ policy: RedirectPolicy) {
    var policy = policy
    // What rejects is not needed for open connections.
    policy.uncaptured = RedirectPolicy.Uncaptured(.bypass)
    policy.rejectsQUIC = false
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
    // What the daemon itself sends is of flows that were captured.
    let rules = draining.table().chains.filter { $0.name != "replies" }.flatMap(\.rules)
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
    #expect(RedirectPolicy().routing() == RoutingPlan())
  }

  @Test(arguments: all)
  func theGuardStaysWhereTheUserWantsItClosed(_ policy: RedirectPolicy) {
    let isGuarded =
      policy.exit == .closed && policy.phase != .suspended
    #expect((policy.guardTable() != nil) == isGuarded)
    for chain in policy.guardTable()?.chains ?? [] {
      for expression in chain.rules.flatMap(\.expressions) {
        switch expression {
        case .redirect, .tproxy, .setMark: Issue.record("the guard changes packets: \(chain.name)")
        default: break
        }
      }
    }
  }

  /// An open table without rejected classes looks at nothing but what it captures.
  @Test func bypassedClassesNeedNoRules() {
    let policy = RedirectPolicy(machine: .init(.tproxy), gateway: .init(.tproxy, interfaces: ["a"]))
    #expect(!policy.table().chains.contains { $0.name.hasSuffix("refuse") })
    var rejecting = policy
    rejecting.uncaptured.udp = .reject
    #expect(rejecting.table().chains.filter { $0.name.hasSuffix("refuse") }.count == 3)
  }

  @Test(arguments: [
    ("10.0.0.1", false), ("172.31.255.255", false), ("192.168.1.1", false),
    ("100.64.0.1", false), ("fd00::1", false),
    ("11.0.0.1", true), ("172.32.0.1", true), ("100.128.0.1", true), ("2001:db8::1", true),
  ])
  func privateRangesAreCapturedOnDemand(_ text: String, isPublic: Bool) throws {
    let address = try #require(IPAddress(text))
    var policy = RedirectPolicy(machine: .init(.redirect))
    #expect(bypasses(policy, address) == !isPublic)
    policy.destinations.includesPrivate = true
    #expect(!bypasses(policy, address))
    policy.destinations.includesPrivate = false
    policy.destinations.only = []
    #expect(!bypasses(policy, address), "a list of what is captured is taken at its word")
  }

  @Test(arguments: [
    "0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1", "239.255.255.255", "255.255.255.255", "::",
    "::1", "fe80::1", "ff02::1",
  ])
  func scopedRangesAreNeverCaptured(_ text: String) throws {
    let address = try #require(IPAddress(text))
    var policy = RedirectPolicy(machine: .init(.tproxy))
    policy.destinations.includesPrivate = true
    #expect(bypasses(policy, address))
  }

  @Test func usersRangesAreAdded() throws {
    let block = try #require(CIDR("203.0.113.0/24"))
    var policy = RedirectPolicy(machine: .init(.redirect))
    policy.destinations.bypass = [block]
    #expect(bypasses(policy, try #require(IPAddress("203.0.113.200"))))
    #expect(!bypasses(policy, try #require(IPAddress("203.0.114.0"))))
  }

  @Test func routesWhatTproxyMarks() {
    func rules(
      _ machine: RedirectPolicy.Capture?, _ gateway: RedirectPolicy.Capture?,
      _ change: (inout RedirectPolicy) -> Void = { $0.dns = .none }
    ) -> [String] {
      var policy = RedirectPolicy(
        machine: machine.map { .init($0) },
        gateway: gateway.map { .init($0, interfaces: ["lan0"]) })
      policy.uncaptured.udp = .bypass
      change(&policy)
      let plan = policy.routing()
      #expect(plan.routes.map(\.family) == (plan.rules.isEmpty ? [] : [.v4, .v6]))
      let half = plan.rules.prefix(plan.rules.count / 2)
      #expect(half.allSatisfy { $0.family == .v4 })
      #expect(plan.rules.dropFirst(half.count).map(\.priority) == half.map(\.priority))
      return half.map { rule in
        let mark = rule.mark.map { String($0.value, radix: 16) } ?? "any"
        return "\(rule.priority) \(mark) \(rule.inputInterface ?? "any") \(rule.action)"
      }
    }
    let machine = "155 1000 lo lookup(155)"
    let gateway = ["157 any any nothing", "155 3000 lo goto(157)", "156 3000 any lookup(155)"]
    #expect(rules(.tproxy, .tproxy) == [machine] + gateway)
    #expect(rules(.tproxy, .redirect) == [machine])
    #expect(rules(.redirect, .tproxy) == gateway)
    #expect(rules(.redirect, .redirect) == [])
    #expect(rules(nil, nil) == [])
    // UDP has no other way, of which DNS may be a part.
    #expect(rules(.redirect, .redirect) { $0.uncaptured.udp = nil } == [machine] + gateway)
    #expect(rules(.redirect, nil) { $0.dns = .selected } == [machine])
    #expect(rules(.redirect, .redirect) { $0.gateway?.losesDatagrams = true } == [machine])
  }

  @Test(arguments: all)
  func onlyTCPIsLookedUpInSocketsAndByFlags(_ policy: RedirectPolicy) {
    for rule in policy.everyChain.flatMap(\.rules)
    where rule.expressions.contains(.socket(.transparent)) {
      guard case .flags = rule.expressions.first else {
        Issue.record("datagrams of others would go to a socket of one flow: \(rule)")
        continue
      }
    }
  }

  @Test(arguments: Marks.candidates)
  func marksAreApart(_ marks: Marks) {
    let values = [marks.machine.value, marks.gateway.value, marks.own.value]
    #expect(Set(values).count == 3 && !values.contains(0))
    #expect(values.allSatisfy { $0 & ~marks.mask == 0 })
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

extension RedirectPolicy {
  fileprivate var everyTable: [Table] { [table()] + [guardTable()].compactMap(\.self) }

  fileprivate var everyChain: [Chain] { everyTable.flatMap(\.chains) }

  fileprivate mutating func chooseEverything() {
    machine?.users = Choice(only: [0...0, 1000...1999], except: [1001...1001])
    machine?.groups = Choice(only: [5...5], except: [6...6])
    machine?.controlGroups = Choice(
      only: [
        ControlGroup(path: "a", level: 1, identifier: 10),
        ControlGroup(path: "a/b", level: 2, identifier: 11),
      ], except: [ControlGroup(path: "c", level: 1, identifier: 12)])
    machine?.outputInterfaces = Choice(only: ["wan*"], except: ["wan7"])
    gateway?.interfaceGroups = [7]
    gateway?.sources = Choice(
      only: blocks("11.0.0.0/8", "2a0f::/16"), except: blocks("11.9.0.0/16"))
    gateway?.hardwareAddresses = Choice(
      only: [HardwareAddress("02:00:00:00:00:01")].compactMap(\.self),
      except: [HardwareAddress("02:00:00:00:00:02")].compactMap(\.self))
    destinations.only = blocks("198.18.0.0/15")
    destinations.onlyPorts = [1...1023]
    destinations.bypassPorts = [22...22]
    services = [80...80]
    uncaptured = Uncaptured(.reject, udp: .bypass, ipv6: .reject)
    rejectsQUIC = true
    dns = .everywhere
  }
}
