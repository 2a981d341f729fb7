import Addressing
import Testing

@testable import Configuration

struct PolicyRuleTests {
  private func options(_ upstreams: [String], _ rules: [String]) -> Options {
    var options = Options()
    options.machine = true
    options.furtherUpstreams = upstreams
    options.rules = rules
    return options
  }

  @Test func everyPropertyIsTaken() throws {
    let rule = try PolicyRule(
      "name=mail protocols=tcp ports=25,465-587\taddresses=203.0.113.0/24,2001:db8::1 sources=10.0.0.0/8 "
        + "uids=0,alice,1000-1999 names=Example.com.,*.example.org to=relay", number: 7)
    #expect(rule.name == "mail" && rule.label == "mail")
    #expect(rule.concerns(.tcp) && !rule.concerns(.udp))
    #expect(rule.ports == [25...25, 465...587])
    #expect(rule.addresses.map(\.description) == ["203.0.113.0/24", "2001:db8::1"])
    #expect(rule.sources.map(\.description) == ["10.0.0.0/8"])
    #expect(rule.users == [.numbers(0...0), .name("alice"), .numbers(1000...1999)])
    #expect(rule.names.map(\.name) == ["example.com", "example.org"])
    #expect(rule.names.map(\.isBelow) == [false, true])
    #expect(rule.target == .upstream("relay"))
  }

  @Test(arguments: [
    ("to=default", PolicyRule.Target.standard), ("protocols=tcp to=direct", .direct),
    ("to=reject", .reject),
    ("to=tor-2", .upstream("tor-2")),
  ])
  func targets(text: String, target: PolicyRule.Target) throws {
    let rule = try PolicyRule(text, number: 3)
    #expect(rule.target == target && rule.name == "rule 3" && rule.label == "3")
  }

  @Test(arguments: [
    ("", "--rule: : expected to=…"), ("ports=25", "--rule: ports=25: expected to=…"),
    (
      "direct",
      "--rule: direct: expected name, protocols, ports, addresses, sources, uids, names or to"
    ),
    ("port=25 to=direct", "--rule: port=25: expected name, protocols, ports,"),
    ("ports=25 ports=26 to=direct", "--rule: ports is there twice"),
    ("ports=25 to=direct", "--rule: ports=25 to=direct: UDP does not go directly from here"),
    ("protocols=udp to=direct", "--rule: protocols=udp to=direct: UDP does not"),
    ("protocols=icmp to=reject", "--rule: protocols icmp: expected tcp or udp"),
    ("ports= to=direct", "--rule: ports : expected a port or a range"),
    ("ports=25,,26 to=direct", "--rule: ports : expected a port"),
    ("ports=70000 to=direct", "--rule: ports 70000: expected a port"),
    ("ports=26-25 to=direct", "--rule: ports 26-25: expected a port"),
    (
      "addresses=10.0.0.1/8 to=direct",
      "--rule: addresses 10.0.0.1/8: expected an address or a block"
    ),
    ("sources=lan to=direct", "--rule: sources lan: expected an address"),
    ("uids=-5 to=direct", "--rule: uids -5: expected a name, a number"),
    ("names=*.*.org to=direct", "--rule: names *.*.org: expected a host name"),
    ("names=. to=direct", "--rule: names .: expected a host name"),
    ("to=", "--rule: to : expected the name of an upstream"),
    ("to=a,b", "--rule: to a,b: expected the name of an upstream"),
    ("name=7 to=direct", "--rule: name 7: expected a letter"),
  ])
  func refused(text: String, message: String) {
    let error = #expect(throws: ConfigurationError.self) { try PolicyRule(text, number: 1) }
    #expect(error?.description.hasPrefix(message) == true, "\(error?.description ?? "")")
  }

  @Test(arguments: [
    (
      ["socks5://a", "tor=socks5://b"], ["to=mail"],
      "--rule 1: no upstream is named mail, but there is tor"
    ),
    (["socks5://a"], ["name=x to=mail"], "--rule x: no upstream is named mail: name one"),
    (
      ["socks5://a"], ["name=x to=default", "name=x to=reject"],
      "--rule x: there are two of this name"
    ),
    (
      ["socks5://a"], Array(repeating: "to=reject", count: 256),
      "--rule: 256 rules: expected at most 255"
    ),
  ])
  func refusedTogether(upstreams: [String], rules: [String], message: String) {
    let error = #expect(throws: ConfigurationError.self) {
      try Configuration(options(upstreams, rules))
    }
    #expect(error?.description.hasPrefix(message) == true, "\(error?.description ?? "")")
  }

  /// Where a rule sends UDP to one that has it, others need not.
  @Test(arguments: [
    ("to=other", true), ("protocols=udp to=other", true), ("protocols=tcp to=other", false),
  ])
  func datagramsMayGoThroughNamedOnes(rule: String, isPossible: Bool) throws {
    var options = options(["socks5://c,http://a", "other=socks5://b"], [rule])
    options.udp = "proxy"
    #expect(((try? Configuration(options)) != nil) == isPossible)
  }

  @Test func usersAreOfThisHost() throws {
    var options = options(["socks5://a"], ["uids=0 to=reject"])
    #expect(try Configuration(options).rules.count == 1)
    options.machine = false
    options.gateways = ["lan0"]
    let error = #expect(throws: ConfigurationError.self) { try Configuration(options) }
    #expect(error?.description.hasPrefix("--rule 1: uids are of programs of this host") == true)
  }
}
