import Addressing
import TestSupport
import Testing

@testable import DataPlane

/// One rule over plain lists: slow and obviously right.
private struct SlowRule {
  var transport: FlowIdentifier.Transport?
  var ports: [ClosedRange<UInt16>] = []
  var addresses: [CIDR] = []
  var sources: [CIDR] = []
  var users: [ClosedRange<UInt32>] = []
  var exact: [String] = []
  var below: [String] = []

  func matches(
    _ transport: FlowIdentifier.Transport, _ client: IPAddress, _ destination: SocketAddress,
    user: UInt32?, name: String?
  ) -> Bool {
    if let wanted = self.transport, wanted != transport { return false }
    if !ports.isEmpty, !ports.contains(where: { $0.contains(destination.port) }) { return false }
    if !addresses.isEmpty, !addresses.contains(where: { $0.contains(destination.address) }) {
      return false
    }
    if !sources.isEmpty, !sources.contains(where: { $0.contains(client) }) { return false }
    if !users.isEmpty {
      guard let user, users.contains(where: { $0.contains(user) }) else { return false }
    }
    if !exact.isEmpty || !below.isEmpty {
      guard let name = name?.lowercased() else { return false }
      return exact.contains(name) || below.contains { name.hasSuffix(".\($0)") }
    }
    return true
  }

  func fast(_ name: String, _ decision: Policy.Decision) -> Policy.Rule {
    var rule = Policy.Rule(name, decision)
    rule.transport = transport
    rule.ports = RangeSet(ports)
    rule.addresses = AddressSet(addresses)
    rule.sources = AddressSet(sources)
    rule.users = RangeSet(users)
    rule.names = NameSet(exact, below: below)
    return rule
  }
}

private struct Source {
  var random: SplitMix

  mutating func few<Element>(_ make: (inout SplitMix) -> Element) -> [Element] {
    let count = max(0, Int(random.next(below: 6)) - 2)
    return (0..<count).map { _ in make(&random) }
  }

  /// Of few, so that many are met.
  static func address(_ random: inout SplitMix) -> IPAddress {
    let low = random.next(below: 64)
    return random.next(below: 3) == 0
      ? .v6(IPv6Address(high: 0x2001_0DB8 << 32, low: low))
      : .v4(IPv4Address(bits: 0x0A00_0000 | UInt32(low)))
  }

  static func block(_ random: inout SplitMix) -> CIDR {
    let address = address(&random)
    let length = address.bitWidth - Int(random.next(below: 7))
    guard let block = CIDR(address, prefixLength: length) else {
      preconditionFailure("the length is the family's")
    }
    return block
  }

  static func range<Bound: FixedWidthInteger>(_ random: inout SplitMix) -> ClosedRange<Bound> {
    let low = Bound(random.next(below: 40))
    return low...(low + Bound(random.next(below: 5)))
  }

  static func name(_ random: inout SplitMix) -> String {
    let labels = ["a", "b", "ab"]
    return (0...random.next(below: 3)).map { _ in labels[Int(random.next(below: 3))] }
      .joined(separator: ".")
  }

  mutating func rule() -> SlowRule {
    var rule = SlowRule()
    rule.transport = [nil, .tcp, .udp][Int(random.next(below: 3))]
    rule.ports = few { Self.range(&$0) }
    rule.addresses = few { Self.block(&$0) }
    rule.sources = few { Self.block(&$0) }
    if random.next(below: 3) == 0 { rule.users = few { Self.range(&$0) } }
    if random.next(below: 3) == 0 { (rule.exact, rule.below) = (few(Self.name), few(Self.name)) }
    return rule
  }
}

struct PolicyTests {
  private static let standard = MemberSet(count: 1)
  private let other = Policy.Decision.upstreams(MemberSet([1]))

  /// Random rules and flows, of which many meet some.
  @Test func decidesLikeTheSlowRules() {
    var source = Source(random: SplitMix(seed: 9))
    var decided: [Int: Int] = [:]
    for _ in 0..<300 {
      let slow = (0..<source.random.next(below: 8)).map { _ in source.rule() }
      let policy = Policy(
        slow.enumerated().map { $1.fast("r\($0)", $0.isMultiple(of: 2) ? other : .reject) },
        standard: Self.standard)
      for _ in 0..<100 {
        let transport: FlowIdentifier.Transport = source.random.next(below: 2) == 0 ? .tcp : .udp
        let client = Source.address(&source.random)
        let port = UInt16(source.random.next(below: 45))
        let destination = SocketAddress(Source.address(&source.random), port)
        let user = source.random.next(below: 4) == 0 ? nil : UInt32(source.random.next(below: 45))
        let name = source.random.next(below: 4) == 0 ? nil : Source.name(&source.random)
        let expected = slow.firstIndex {
          $0.matches(transport, client, destination, user: user, name: name)
        }
        let verdict = policy.verdict(
          on: transport, from: client, to: destination, user: { user }, name: { name?.uppercased() }
        )
        #expect(verdict.rule.index == expected)
        #expect(policy.name(of: verdict.rule) == expected.map { "r\($0)" })
        let decision: Policy.Decision? = expected.map { $0.isMultiple(of: 2) ? other : .reject }
        #expect(verdict.decision == decision ?? .upstreams(Self.standard))
        decided[expected ?? -1, default: 0] += 1
      }
    }
    #expect(decided.count > 4 && decided.values.allSatisfy { $0 > 10 }, "\(decided)")
  }

  @Test func ranges() {
    var random = SplitMix(seed: 3)
    for _ in 0..<200 {
      let ranges: [ClosedRange<UInt16>] = (0..<random.next(below: 12)).map { _ in
        Source.range(&random)
      }
      let set = RangeSet(ranges)
      #expect(set.isEmpty == ranges.isEmpty)
      for value in UInt16(0)...50 {
        #expect(set.contains(value) == ranges.contains { $0.contains(value) })
      }
    }
    let ends = RangeSet<UInt16>([0...0, .max ... .max])
    #expect(ends.contains(0) && ends.contains(.max) && !ends.contains(1))
  }

  @Test(arguments: [
    ("example.com", true), ("EXAMPLE.com.", true), ("www.example.com", false),
    ("a.example.org", true), ("a.b.Example.ORG.", true), ("example.org", false),
    ("badexample.org", false), ("", false), (".", false),
  ])
  func names(name: String, isIn: Bool) {
    #expect(NameSet(["example.com"], below: ["example.org"]).contains(name) == isIn)
  }

  /// What costs a question is not asked where the rest does not hold, and never twice.
  @Test func asksOnlyWhatDecides() throws {
    var first = Policy.Rule("first", other)
    first.ports = RangeSet([1...1])
    first.users = RangeSet([1...1])
    var second = Policy.Rule("second", .reject)
    second.users = RangeSet([2...2])
    second.names = NameSet(["a"])
    var third = Policy.Rule("third", .reject)
    third.users = RangeSet([3...3])
    third.names = NameSet(["b"])
    let policy = Policy([first, second, third], standard: Self.standard)
    let client = try #require(IPAddress("10.0.0.1"))
    var (users, names) = (0, 0)
    func rule(_ port: UInt16, user: UInt32) -> Int? {
      (users, names) = (0, 0)
      return policy.verdict(on: .tcp, from: client, to: SocketAddress(client, port)) {
        users += 1
        return user
      } name: {
        names += 1
        return "b"
      }.rule.index
    }
    #expect(rule(1, user: 1) == 0 && users == 1 && names == 0)
    #expect(rule(2, user: 2) == nil && users == 1 && names == 1)
    #expect(rule(1, user: 3) == 2 && users == 1 && names == 1)
    #expect(policy.concernsUsers && policy.concernsNames)
  }

  /// The last of as many as there may be has a number.
  @Test func manyRules() throws {
    let rules = (0..<Policy.maximumRules).map { number in
      var rule = Policy.Rule("\(number)", other)
      rule.ports = RangeSet([UInt16(number)...UInt16(number)])
      return rule
    }
    let policy = Policy(rules, standard: Self.standard)
    let client = try #require(IPAddress("::1"))
    for number in [0, 254] {
      let verdict = policy.verdict(
        on: .udp, from: client, to: SocketAddress(client, UInt16(number)), user: { nil },
        name: { nil })
      #expect(policy.name(of: verdict.rule) == "\(number)")
      #expect(policy.number(ofRule: "\(number)") == verdict.rule)
    }
    #expect(policy.name(of: .none) == nil && policy.number(ofRule: "255") == nil)
  }
}
