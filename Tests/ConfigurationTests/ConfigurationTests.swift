import Addressing
import Testing

@testable import Configuration

/// Valid settings, to be spoilt in one place.
private func options(_ change: (inout Options) -> Void = { _ in }) -> Options {
  var options = Options()
  options.upstream = "socks5://proxy.example:1080"
  options.machine = true
  change(&options)
  return options
}

struct ConfigurationTests {
  @Test func defaults() throws {
    let configuration = try Configuration(options())
    #expect(configuration.machine?.users.only == [])
    #expect(configuration.gateway == nil)
    #expect(configuration.tcp == nil)
    #expect(configuration.port == 10880)
    #expect(configuration.destinations.bypass.isEmpty)
    #expect(!configuration.destinations.isList)
    #expect(!configuration.destinations.proxyPrivate)
    #expect(configuration.onExit == .open)
    #expect(configuration.onUpstreamDown == .closed)
    #expect(configuration.uncaptured == Configuration.Uncaptured())
    #expect(configuration.quic == .proxy)
    #expect(configuration.dns == nil)
    #expect(configuration.dnsServer == nil)
    #expect(configuration.datagrams.relay == .automatic)
    #expect(configuration.datagrams.timeouts == Datagrams.Timeouts())
    #expect(configuration.datagrams.associations == nil)
    #expect(configuration.datagrams.associationsPerClient == nil)
    #expect(configuration.workers == nil)
    #expect(configuration.timeouts == Configuration.Timeouts())
    #expect(configuration.control?.description == "/run/sluice/control.sock")
    #expect(configuration.controlGroup == nil)
  }

  @Test(arguments: [
    "unix:/run/sluice/metrics.sock", "127.0.0.1:10882", "127.9.9.9:1", "[::1]:10882",
  ])
  func metricsHaveAPlace(_ text: String) throws {
    let configuration = try Configuration(options { $0.metrics = text })
    #expect(configuration.metrics?.description == text)
  }

  /// Without a control socket, too.
  @Test func metricsFileHasTheGroup() throws {
    let configuration = try Configuration(
      options {
        $0.control = "none"
        $0.controlGroup = "adm"
        $0.metrics = "unix:/run/m"
      })
    #expect(configuration.control == nil && configuration.controlGroup == "adm")
  }

  @Test func controlSocketIsElsewhereOrNowhere() throws {
    let elsewhere = try Configuration(options { $0.control = "/run/other" })
    #expect(elsewhere.control?.description == "/run/other")
    #expect(try Configuration(options { $0.controlGroup = "adm" }).controlGroup == "adm")
    #expect(try Configuration(options { $0.control = "none" }).control == nil)
  }

  @Test func withoutAnUpstreamTheEmbeddedServerIsUsed() throws {
    #expect(try Configuration(options { $0.upstream = nil }).upstream == .embedded)
  }

  @Test func everythingSet() throws {
    let configuration = try Configuration(
      options {
        $0.machine = false
        $0.gateways = ["lan0", "docker*", "group:7"]
        $0.sources = Options.Choice(only: ["11.0.0.0/8"], except: ["11.1.0.0/16"])
        $0.hardwareAddresses.only = ["02:00:00:00:00:01"]
        $0.users = Options.Choice(only: ["1000-1999", "www-data"], except: ["0"])
        $0.controlGroups.except = ["/sys/fs/cgroup/system.slice/ssh.service/"]
        $0.outputInterfaces.only = ["wan0"]
        $0.proxyOnlyFiles = ["/etc/list"]
        $0.bypassPorts = ["22", "8000-8999"]
        $0.udp = "reject"
        $0.quic = "reject"
        $0.dns = "tcp"
        $0.dnsServer = "192.0.2.53"
        $0.udpRelay = "control"
        $0.udpUnrepliedTimeout = 5
        $0.udpTimeout = 6
        $0.dnsTimeout = 7
        $0.udpAssociations = 1_000_000
        $0.udpPerClient = 1
        $0.ipv6 = "bypass"
        $0.onExit = "closed"
        $0.onUpstreamDown = "open"
        $0.tcp = "redirect"
        $0.port = 65534
        $0.bypass = ["198.51.100.0/24", "2001:db8::1"]
        $0.proxyPrivate = true
        $0.workers = 1
        $0.connectTimeout = 1
        $0.handshakeTimeout = 2
        $0.idleTimeout = 3
        $0.halfCloseTimeout = 4
        $0.halfClose = "hold"
        $0.drainTimeout = 0
      })
    let gateway = try #require(configuration.gateway)
    #expect(gateway.interfaces == ["lan0", "docker*"])
    #expect(gateway.interfaceGroups == [7])
    #expect(gateway.sources.except.map(\.description) == ["11.1.0.0/16"])
    #expect(gateway.hardwareAddresses.only.map(\.description) == ["02:00:00:00:00:01"])
    let machine = try #require(configuration.machine, "its choices imply --machine")
    #expect(machine.users.only == [.numbers(1000...1999), .name("www-data")])
    #expect(machine.users.except == [.numbers(0...0)])
    #expect(machine.controlGroups.except == ["system.slice/ssh.service"])
    #expect(machine.outputInterfaces.only == ["wan0"])
    #expect(configuration.destinations.isList)
    #expect(configuration.destinations.bypassPorts == [22...22, 8000...8999])
    #expect(configuration.uncaptured == Configuration.Uncaptured(udp: .reject, ipv6: .bypass))
    #expect(configuration.quic == .reject)
    #expect(configuration.dns == .tcp)
    #expect(configuration.dnsServer?.description == "192.0.2.53:53")
    #expect(configuration.datagrams.relay == .control)
    #expect(
      configuration.datagrams.timeouts
        == Datagrams.Timeouts(unreplied: 5, established: 6, dns: 7))
    #expect(configuration.datagrams.associations == 1_000_000)
    #expect(configuration.datagrams.associationsPerClient == 1)
    #expect(configuration.onExit == .closed)
    #expect(configuration.onUpstreamDown == .open)
    #expect(configuration.tcp == .redirect)
    #expect(
      configuration.destinations.bypass.map(\.description) == ["198.51.100.0/24", "2001:db8::1"])
    #expect(configuration.workers == 1)
    #expect(configuration.halfClose == .hold)
    #expect(
      configuration.timeouts
        == Configuration.Timeouts(connect: 1, handshake: 2, idle: 3, halfClose: 4, drain: 0))
  }

  /// One setting that cannot be used, and what the message names.
  struct Fault: Sendable {
    let named: String
    let change: @Sendable (inout Options) -> Void

    init(_ named: String, _ change: @escaping @Sendable (inout Options) -> Void) {
      self.named = named
      self.change = change
    }
  }

  private static let faults = [
    Fault("--machine") { $0.machine = false },
    Fault("--tcp") { $0.tcp = "divert" },
    Fault("--port") { $0.port = 65535 },
    Fault("--port") { $0.port = 0 },
    Fault("--port") { $0.port = -1 },
    Fault("--bypass") { $0.bypass = ["10.0.0.1/8"] },
    Fault("--bypass") { $0.bypass = ["example.org"] },
    Fault("--gateway") { $0.gateways = [""] },
    Fault("--gateway") { $0.gateways = ["a-name-longer-than-15"] },
    Fault("--gateway") { $0.gateways = ["eth0\" drop"] },
    Fault("--gateway") { $0.gateways = [".."] },
    Fault("--gateway") { $0.gateways = ["*"] },
    Fault("--gateway") { $0.gateways = ["e*h"] },
    Fault("--gateway") { $0.gateways = ["group:lan"] },
    Fault("--gateway") { $0.sources.only = ["11.0.0.0/8"] },
    Fault("--except-from") {
      $0.gateways = ["lan0"]
      $0.sources.except = ["11.0.0.1/8"]
    },
    Fault("--mac") {
      $0.gateways = ["lan0"]
      $0.hardwareAddresses.only = ["02:00:00:00:00"]
    },
    Fault("--uid") { $0.users.only = ["9-3"] },
    Fault("--uid") { $0.users.only = [""] },
    Fault("--except-gid") { $0.groups.except = ["4294967296"] },
    Fault("--cgroup") { $0.controlGroups.only = ["/"] },
    Fault("--cgroup") { $0.controlGroups.only = ["a/../b"] },
    Fault("--out-interface") { $0.outputInterfaces.only = ["a b"] },
    Fault("--bypass-port") { $0.bypassPorts = ["0"] },
    Fault("--proxy-only-port") { $0.proxyOnlyPorts = ["80-"] },
    Fault("--proxy-only") { $0.proxyOnly = ["all"] },
    Fault("--udp") { $0.udp = "drop" },
    Fault("--quic") { $0.quic = "bypass" },
    Fault("--dns") { $0.dns = "on" },
    Fault("--dns-server") { $0.dnsServer = "dns.example" },
    Fault("--dns off") { ($0.dnsServer, $0.dns) = ("192.0.2.53", "off") },
    Fault("--udp-relay") { $0.udpRelay = "proxy.example:1080" },
    Fault("--udp-unreplied-timeout") { $0.udpUnrepliedTimeout = 0 },
    Fault("--udp-timeout") { $0.udpTimeout = -1 },
    Fault("--dns-timeout") { $0.dnsTimeout = Configuration.maximumTimeout + 1 },
    Fault("--udp-associations") { $0.udpAssociations = 0 },
    Fault("--udp-per-client") { $0.udpPerClient = 1_000_001 },
    Fault("--ipv6") { $0.ipv6 = "off" },
    Fault("--on-exit") { $0.onExit = "ajar" },
    Fault("--on-upstream-down") { $0.onUpstreamDown = "" },
    Fault("--half-close") { $0.halfClose = "never" },
    Fault("--workers") { $0.workers = 0 },
    Fault("--pool") { $0.pool = -1 },
    Fault("--early-data") { $0.earlyData = "sometimes" },
    Fault("--probe-interval") { $0.probeInterval = "0" },
    Fault("--probe-interval") { $0.probeInterval = "on" },
    Fault("--probe-interval") { $0.probeInterval = "-1" },
    Fault("--probe-target") { $0.probeTarget = "example.com" },
    Fault("--probe-target") { $0.probeTarget = "192.0.2.7:0" },
    Fault("--probe-timeout") { $0.probeTimeout = 0 },
    Fault("--probe-failures") { $0.probeFailures = 0 },
    Fault("--balance fastest") {
      ($0.probeInterval, $0.furtherUpstreams, $0.balance) = ("off", ["socks5://b"], "fastest")
    },
    Fault("--user-timeout") { $0.userTimeout = 0 },
    Fault("--congestion") { $0.congestion = "" },
    Fault("--congestion") { $0.congestion = "sixteen_letters_" },
    Fault("--pool") { $0.pool = Configuration.maximumPool + 1 },
    Fault("a race has no use") {
      ($0.pool, $0.furtherUpstreams, $0.balance) = (1, ["socks5://b"], "race")
    },
    Fault("--control") { $0.control = "" },
    Fault("--metrics") { $0.metrics = "10882" }, Fault("--metrics") { $0.metrics = "127.0.0.1:0" },
    Fault("--metrics") { $0.metrics = "unix:run" },
    Fault("--metrics 192.0.2.1:10882: other hosts") { $0.metrics = "192.0.2.1:10882" },
    Fault("--metrics [::]:10882: other hosts") { $0.metrics = "[::]:10882" },
    Fault("--control-group") {
      $0.control = "none"
      $0.controlGroup = "adm"
    },
    Fault("--control") { $0.control = "/" + String(repeating: "x", count: 107) },
    Fault("--connect-timeout") { $0.connectTimeout = 0 },
    Fault("--idle-timeout") { $0.idleTimeout = Configuration.maximumTimeout + 1 },
    Fault("--drain-timeout") { $0.drainTimeout = -5 },
    Fault("--udp proxy: hop 2") { ($0.upstream, $0.udp) = ("socks5://a,http://b", "proxy") },
    Fault("--dns udp: hop 2") { ($0.upstream, $0.dns) = ("socks5://a,socks4://b", "udp") },
    Fault("hop 2") { $0.upstream = "socks5://a,nonsense://host" },
    Fault("nonsense://host") { $0.upstream = "nonsense://host" },
  ]

  /// Each message is one line, and names the setting and what was expected.
  @Test(arguments: faults)
  func refused(fault: Fault) {
    let error = #expect(throws: ConfigurationError.self) {
      try Configuration(options(fault.change))
    }
    #expect(error?.description.contains(fault.named) == true)
    #expect(error?.description.contains("\n") == false)
  }

  @Test func passwordIsTakenWhereTheURLHasNone() throws {
    let password = UpstreamPassword(Array("s3cret".utf8))
    for (url, expected) in [
      ("socks5://ann@h", "socks5://ann:s3cret@h"), ("http://ann:own@h", "http://ann:own@h"),
      ("socks4://ann@h", "socks4://ann@h"), ("embedded", "embedded"),
    ] {
      let options = options {
        $0.upstream = url
        $0.password = password
      }
      #expect(try Configuration(options).upstream == UpstreamChain(expected))
      #expect(!"\(options)".contains("s3cret") && !"\(options)".contains("\(password.bytes)"))
    }
    let error = #expect(throws: ConfigurationError.self) {
      try Configuration(
        options {
          $0.upstream = "socks5://ann@h"
          $0.password = UpstreamPassword(Array(repeating: 1, count: 256))
        })
    }
    #expect(error?.description == "upstream password longer than 255 bytes")
  }

  /// A URL that may hold a password is not repeated.
  @Test func passwordStaysOutOfTheMessage() {
    let error = #expect(throws: ConfigurationError.self) {
      try Configuration(options { $0.upstream = "socks5://ann:s3cret@host:99999" })
    }
    #expect(error?.description.contains("s3cret") == false)
  }
}
