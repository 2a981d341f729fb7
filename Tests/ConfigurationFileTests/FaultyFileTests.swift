import ConfigurationFile
import Testing

/// A file with something wrong in it, and what is said of it, one line for each fault.
struct FaultyFile: CustomTestStringConvertible, Sendable {
  let text: String
  let messages: [String]

  init(_ text: String, _ messages: String...) {
    self.text = text
    self.messages = messages
  }

  var testDescription: String { text }
}

private let blocks =
  "expected an address or a block without host bits, such as 203.0.113.0/24 or 2001:db8::/32"
private let undecorated = "anchors (&), aliases (*) and tags (!) are not supported: write the value"

private let ruleKeys = "name, protocols, ports, addresses, sources, uids, names or to"

let faultyFiles = [
  // Not YAML, or not one mapping.
  FaultyFile("machine: [true", "2:1: not YAML: did not find expected ',' or ']'"),
  FaultyFile("a: b: c", "1:5: not YAML: mapping values are not allowed in this context"),
  FaultyFile(
    "machine: true\n\tudp: proxy", "2:1: not YAML: found a tab character that violates indentation"),
  FaultyFile("udp: \"proxy", "1:12: not YAML: found unexpected end of stream"),
  FaultyFile("udp: 'proxy\nquic: reject", "2:13: not YAML: found unexpected end of stream"),
  FaultyFile("udp: {proxy", "2:1: not YAML: did not find expected ',' or '}'"),
  FaultyFile(
    "udp: proxy\n quic: reject", "2:6: not YAML: mapping values are not allowed in this context"),
  FaultyFile("- machine", "1:1: expected settings, such as machine: true, not a list"),
  FaultyFile("machine", "1:1: expected settings, such as machine: true, not a single value"),
  FaultyFile("udp: proxy\n---\nudp: proxy", "2:1: a second document begins here: expected one"),
  FaultyFile("bypass: &b 192.0.2.1", "1:9: \(undecorated)"),
  FaultyFile("udp: *b", "1:6: \(undecorated)"),
  FaultyFile("port: !!int 1080", "1:7: \(undecorated)"),
  FaultyFile("bypass: [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]", "1:24: lists within lists without end"),
  FaultyFile("udp: \"\u{1}\"", "1:7: not YAML: control characters are not allowed"),
  // Keys.
  FaultyFile("bypas: 192.0.2.1", "1:1: bypas is no setting: did you mean bypass?"),
  FaultyFile(
    "machine: true\nexcept_uid: 0", "2:1: except_uid is no setting: did you mean except-uid?"),
  FaultyFile("dsn: udp", "1:1: dsn is no setting: did you mean dns?"),
  FaultyFile("colour: red", "1:1: colour is no setting"),
  FaultyFile("Machine: true", "1:1: Machine is no setting: did you mean machine?"),
  FaultyFile("[machine]: true", "1:1: expected the name of a setting, not a list"),
  FaultyFile("udp: proxy\nudp: reject", "2:1: udp is there twice: leave one of the two out"),
  // Kinds of values.
  FaultyFile("machine: yes", "1:10: machine: expected true or false, not yes"),
  FaultyFile("machine: \"true\"", "1:10: machine: expected true or false, not true"),
  FaultyFile("machine:", "1:9: machine: expected true or false, not nothing"),
  FaultyFile("port: many", "1:7: port: expected a whole number, not many"),
  FaultyFile("port: 10.5", "1:7: port: expected a whole number, not 10.5"),
  FaultyFile("port: [1080]", "1:7: port: expected a whole number, not a list"),
  FaultyFile(
    "port: 99999999999999999999", "1:7: port: expected a whole number, not 99999999999999999999"),
  FaultyFile("udp: [proxy]", "1:6: udp: expected proxy, bypass or reject, not a list"),
  FaultyFile("udp: ~", "1:6: udp: expected proxy, bypass or reject, not nothing"),
  FaultyFile("uid: {name: alice}", "1:6: uid: expected a text or a list of texts, not a mapping"),
  FaultyFile("uid: [alice, [bob]]", "1:14: uid: expected a text or a list of texts, not a list"),
  // Values.
  FaultyFile("udp: prox", "1:6: udp prox: expected proxy, bypass or reject"),
  FaultyFile("quic: bypass", "1:7: quic bypass: expected proxy or reject"),
  FaultyFile(
    "port: 65535", "1:7: port 65535: expected 1 to 65534, since the port after it is used too"),
  FaultyFile("workers: 0", "1:10: workers 0: expected 1 to 256"),
  FaultyFile(
    "idle-timeout: 0", "1:15: idle-timeout 0: expected seconds, 1 to 2592000"),
  FaultyFile("bypass:\n- 192.0.2.0/24\n- 192.0.2.1/24", "3:3: bypass 192.0.2.1/24: \(blocks)"),
  FaultyFile("proxy-only: 10.0.0.0/33", "1:13: proxy-only 10.0.0.0/33: \(blocks)"),
  FaultyFile(
    "bypass-port: [443, 0]",
    "1:20: bypass-port 0: expected a port or a range, such as 443 or 8000-8999"),
  FaultyFile(
    "gateway: lan/0",
    "1:10: gateway lan/0: not an interface name (see ip link), nor the beginning of one such as docker*"
  ),
  FaultyFile(
    "mac: 02:00:5e", "1:6: mac 02:00:5e: expected a hardware address, such as 02:00:5e:10:00:01"),
  FaultyFile(
    "dns-server: resolver",
    "1:13: dns-server resolver: expected a resolver's address, such as 192.0.2.53, 192.0.2.53:5353 or "
      + "[2001:db8::53]:53"),
  FaultyFile(
    "control: run.sock", "1:10: control run.sock: expected an absolute path of at most 107 bytes"),
  FaultyFile(
    "metrics: 0.0.0.0:10882",
    "1:10: metrics 0.0.0.0:10882: other hosts could read there what this one does: expected unix:PATH, "
      + "127.0.0.1:PORT or [::1]:PORT"),
  // Rules.
  FaultyFile(
    "rule: 7", "1:7: rule: 7: expected \(ruleKeys), each with = and its values behind it"),
  FaultyFile(
    "rule: [[to=direct]]",
    "1:8: rule: expected a list of rules, such as {ports: [25], to: reject}, not a list"),
  FaultyFile(
    "rule:\n- {port: 25, to: direct}",
    "2:4: rule: port is no property of a rule: did you mean ports?"),
  FaultyFile("rule: {[to]: direct}", "1:8: expected a property of a rule, not a list"),
  FaultyFile(
    "rule:\n- {ports: [25, 70000], uids: {}, names: [a b], to: tor}\n- {ports: 25}",
    "2:16: rule: ports 70000: expected a port or a range, such as 443 or 8000-8999",
    "2:30: rule: uids: expected a value or a list of values, not a mapping",
    "2:42: rule: names a b: expected no space in it",
    "3:3: rule: ports=25: expected to=…, the name of an upstream, default, direct or reject"),
  FaultyFile(
    "rule: {to: direct, ports: 1, ports: 2}",
    "1:7: rule: ports is there twice: several values are joined by commas"),
  // All faults are told, from the beginning to the end.
  FaultyFile(
    "udp: prox\nnam: 1\nbypass: [x, 192.0.2.1, y]",
    "1:6: udp prox: expected proxy, bypass or reject",
    "2:1: nam is no setting: did you mean mac?", "3:10: bypass x: \(blocks)",
    "3:24: bypass y: \(blocks)"),
]

@Suite struct FaultyFileTests {
  @Test(arguments: faultyFiles) func faultsHavePlaces(_ file: FaultyFile) {
    var messages: [String] = []
    do {
      _ = try ConfigurationFile(Array(file.text.utf8))
    } catch {
      messages = error.all.map { $0.description(in: "f") }
    }
    #expect(messages == file.messages.map { "f:\($0)" })
  }

  @Test func passwordsAreNotRepeated() throws {
    let text = "upstream: socks5://alice:secret@proxy:port"
    let problems = try #require(throws: Problems.self) { try ConfigurationFile(Array(text.utf8)) }
    #expect(problems.all.count == 1)
    #expect(!problems.all[0].description(in: "f").contains("secret"))
  }

  @Test func invalidTextIsRefused() throws {
    let bytes = Array("udp: proxy\nquic: ".utf8) + [0xC3, 0x28]
    let problems = try #require(throws: Problems.self) { try ConfigurationFile(bytes) }
    #expect(
      problems.all.map { $0.description(in: "f") } == [
        "f:2:8: not YAML: invalid trailing UTF-8 octet"
      ])
  }

  @Test func tooLongIsRefused() throws {
    let bytes = [UInt8](repeating: UInt8(ascii: "#"), count: 1 << 20 + 1)
    let problems = try #require(throws: Problems.self) { try ConfigurationFile(bytes) }
    #expect(
      problems.all.map { $0.description(in: "f") } == ["f:1:1: expected at most 1048576 bytes"])
  }
}
