import Configuration
import Testing

@testable import ConfigurationFile

@Suite struct ConfigurationFileTests {
  private func file(_ text: String) throws -> ConfigurationFile {
    try ConfigurationFile(Array(text.utf8))
  }

  @Test(arguments: ["", "\n", "# nothing\n", "---\n", "~", "{}"])
  func nothingIsAFile(_ text: String) throws {
    #expect(try file(text).options == Options())
  }

  @Test func eachSettingFillsInItsOption() throws {
    // What is valid for each; a setting that is added has to be added here.
    let values = [
      "upstream": "socks5://192.0.2.1", "balance": "race",
      "rule": "to=reject", "password-file": "/p", "machine": "true",
      "uid": "alice",
      "except-uid": "0", "gid": "users", "except-gid": "1-5", "cgroup": "user.slice",
      "except-cgroup": "system.slice", "out-interface": "wan0", "except-out-interface": "tun*",
      "gateway": "group:7", "from": "192.0.2.0/24", "except-from": "192.0.2.9",
      "mac": "02:00:5e:10:00:01", "except-mac": "02:00:5e:10:00:02", "bypass": "192.0.2.0/24",
      "bypass-file": "/b", "bypass-port": "443", "proxy-only": "2001:db8::/32",
      "proxy-only-file": "/o", "proxy-only-port": "8000-8999", "proxy-private": "true",
      "udp": "reject", "quic": "reject", "dns": "off", "dns-server": "192.0.2.53", "icmp": "bypass",
      "other": "reject", "ipv6": "bypass", "on-exit": "closed", "on-upstream-down": "open",
      "tcp": "redirect", "port": "1080", "workers": "2", "half-close": "hold",
      "pool": "4", "early-data": "on", "probe-interval": "5",
      "probe-target": "192.0.2.7:443", "probe-timeout": "3", "probe-failures": "2",
      "tcp-fast-open": "true", "user-timeout": "9",
      "congestion": "reno",
      "udp-relay": "control", "udp-associations": "10", "udp-per-client": "5", "control": "/run/x",
      "control-group": "adm", "metrics": "127.0.0.1:10882",
      "connect-timeout": "1", "handshake-timeout": "2", "idle-timeout": "3",
      "half-close-timeout": "4", "drain-timeout": "0", "udp-unreplied-timeout": "6",
      "udp-timeout": "7", "dns-timeout": "8",
    ]
    #expect(Set(values.keys) == Set(Setting.all.map(\.name)))
    var seen = Options()
    for setting in Setting.all {
      let value = try #require(values[setting.name])
      let options = try file("\(setting.name): \(value)").options
      #expect(options != Options(), "\(setting.name)")
      let found: String?
      switch setting.value {
      case .flag(let path):
        found = "\(options[keyPath: path])"
        seen[keyPath: path] = options[keyPath: path]
      case .number(let path):
        found = options[keyPath: path].map { "\($0)" }
        seen[keyPath: path] = options[keyPath: path]
      case .text(let path, _):
        found = options[keyPath: path]
        seen[keyPath: path] = options[keyPath: path]
      case .texts(let path), .rules(let path):
        found = options[keyPath: path].first
        seen[keyPath: path] = options[keyPath: path]
      }
      #expect(found == value, "\(setting.name)")
    }
    // All at once, and no two of them fill in the same.
    let whole = try file(values.map { "\($0.key): \($0.value)" }.joined(separator: "\n")).options
    seen.isUpstreamHidden = true
    #expect(whole == seen)
  }

  @Test func textsAreTakenAsWritten() throws {
    let options = try file(
      """
      uid: [1000, "1001", on]
      bypass:
        - 192.0.2.1  # a host
        - 2001:db8::/32
      dns: off
      """
    ).options
    #expect(options.users.only == ["1000", "1001", "on"])
    #expect(options.bypass == ["192.0.2.1", "2001:db8::/32"])
    #expect(options.dns == "off")
  }

  @Test func severalUpstreamsAreAGroup() throws {
    let file = try file(
      "upstream: [socks5://a, socks5://b, socks5://c]\nbalance: hash\nmachine: true")
    let upstreams = try Configuration(file.options).upstreams
    #expect(
      upstreams.members.map { "\($0)" } == [
        "socks5://a:1080", "socks5://b:1080", "socks5://c:1080",
      ])
    #expect(upstreams.balance == .hash)
    var flags = Options()
    flags.upstream = "socks5://d"
    #expect(file.options(under: flags).furtherUpstreams.isEmpty)
  }

  @Test func rulesAreTextsOrMappings() throws {
    let file = try file(
      """
      upstream: [socks5://a, tor=socks5://b]
      machine: true
      rule:
        - name=first protocols=tcp ports=25 to=direct
        - {name: second, ports: [80, 443], addresses: 192.0.2.0/24, uids: [alice, 7], to: tor}
        - to: reject
      """)
    #expect(
      file.options.rules == [
        "name=first protocols=tcp ports=25 to=direct",
        "name=second ports=80,443 addresses=192.0.2.0/24 uids=alice,7 to=tor", "to=reject",
      ])
    #expect(try Configuration(file.options).rules.map(\.name) == ["first", "second", "rule 3"])
  }

  @Test func flagsWin() throws {
    let file = try file("machine: true\nudp: reject\nport: 1\nuid: [a, b]\nbypass: 192.0.2.1")
    var flags = Options()
    flags.udp = "proxy"
    flags.users.only = ["c"]
    let merged = file.options(under: flags)
    #expect(merged.udp == "proxy")
    #expect(merged.users.only == ["c"])
    #expect(merged.machine && merged.port == 1 && merged.bypass == ["192.0.2.1"])
  }

  @Test(arguments: [
    ("# none\nudp: proxy", nil), ("from: 192.0.2.1\nudp: proxy", "1:7"),
    ("machine: true\ndns: off\ndns-server: 192.0.2.53", "3:13"),
    ("machine: true\nrule: [to=tor]", "2:7"),
    ("upstream: \"socks5://{uid}:x@proxy\"\ngateway: lan0", "2:10"),
  ]) func errorsOfTheWholeHavePlaces(_ text: String, _ place: String?) throws {
    let file = try file(text)
    do {
      _ = try Configuration(file.options)
      Issue.record("it is valid")
    } catch {
      let found = file.problem(error).map { "\($0.place.line):\($0.place.column)" }
      #expect(found == place, "\(error)")
    }
  }

  @Test(arguments: [
    ("bypas", "bypass"), ("bypas-file", "bypass-file"), ("timeout", nil), ("", nil), ("x", nil),
    ("ucgroup", "cgroup"), ("qqqqqq", nil),
  ]) func nearestWords(_ text: String, _ word: String?) {
    #expect(nearestWord(to: text, among: Setting.all.map(\.name)) == word)
  }
}
