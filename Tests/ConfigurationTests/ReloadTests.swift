import Testing

@testable import Configuration

/// Every setting either takes effect under a run or is named as one that takes a restart.
struct ReloadTests {
  typealias Change = @Sendable (inout Options) -> Void

  private static func configuration(_ changes: Change...) throws -> Configuration {
    var options = Options()
    options.upstream = "socks5://proxy.example"
    options.machine = true
    options.gateways = ["lan0"]
    for change in changes { change(&options) }
    return try Configuration(options)
  }

  private static let immediate: [Change] = [
    { $0.users.only = ["7"] }, { $0.groups.except = ["7"] },
    { $0.controlGroups.only = ["a.slice"] },
    { $0.outputInterfaces.except = ["tun0"] }, { $0.gateways = ["lan1", "group:3"] },
    { $0.sources.only = ["192.0.2.0/24"] }, { $0.hardwareAddresses.except = ["02:00:00:00:00:01"] },
    { $0.upstream = "socks5://other.example" }, { $0.upstream = "socks5://me:x@proxy.example" },
    { $0.upstream = "tor=socks5://proxy.example" }, { $0.furtherUpstreams = ["http://b"] },
    { $0.rules = ["to=reject"] }, { $0.bypass = ["192.0.2.0/24"] }, { $0.bypassFiles = ["/x"] },
    { $0.bypassPorts = ["25"] },
    { $0.proxyOnly = ["192.0.2.0/24"] }, { $0.proxyOnlyFiles = ["/x"] },
    { $0.proxyOnlyPorts = ["443"] }, { $0.proxyPrivate = true }, { $0.udp = "proxy" },
    { $0.quic = "reject" }, { $0.icmp = "reject" }, { $0.other = "reject" }, { $0.ipv6 = "reject" },
    { $0.halfClose = "hold" }, { $0.connectTimeout = 3 }, { $0.handshakeTimeout = 3 },
    { $0.idleTimeout = 3 }, { $0.halfCloseTimeout = 3 }, { $0.drainTimeout = 3 },
    { $0.udpUnrepliedTimeout = 3 }, { $0.udpTimeout = 3 }, { $0.dnsTimeout = 3 },
  ]

  @Test(arguments: immediate.indices)
  func takesEffect(_ index: Int) throws {
    var configuration = try Self.configuration()
    let other = try Self.configuration(Self.immediate[index])
    #expect(configuration != other)
    #expect(configuration.adopt(other) == [])
    #expect(configuration == other)
  }

  /// What takes effect has a name, and is alone in that.
  @Test(arguments: immediate.indices)
  func hasAName(_ index: Int) throws {
    let configuration = try Self.configuration()
    let other = try Self.configuration(Self.immediate[index])
    let names = other.differences(from: configuration)
    #expect(names.count == 1)
    #expect(configuration.differences(from: other) == names)
    #expect(other.differences(from: other) == [])
  }

  @Test func everyNameIsItsOwn() throws {
    let configuration = try Self.configuration()
    let names = try Self.immediate.map {
      try Self.configuration($0).differences(from: configuration)
    }
    let upstreams = names.count { $0 == ["upstream"] }
    #expect(upstreams == 4)
    #expect(names.joined().count == Set(names.joined()).count + upstreams - 1)
  }

  /// The order and the rule of a group, each by its name.
  @Test func groupsAreCompared() throws {
    let former = try Self.configuration { $0.furtherUpstreams = ["http://b"] }
    var present = former
    let other = try Self.configuration {
      $0.upstream = "http://b"
      $0.furtherUpstreams = ["socks5://proxy.example"]
      $0.balance = "race"
    }
    #expect(present.adopt(other) == [])
    #expect(present == other)
    #expect(present.differences(from: former) == ["upstream", "balance"])
  }

  private static let later: [(Change, [String])] = [
    ({ $0.upstream = "embedded" }, ["upstream"]), ({ $0.upstream = "direct" }, ["upstream"]),
    (
      {
        $0.furtherUpstreams = ["tor=socks5://b"]
        $0.rules = ["to=tor"]
        $0.machine = false
      }, ["machine", "rule", "upstream"]
    ),
    ({ $0.machine = false }, ["machine"]), ({ $0.gateways = [] }, ["gateway"]),
    ({ $0.udp = "reject" }, ["udp"]), ({ $0.halfClose = "auto" }, ["half-close"]),
    ({ $0.dns = "tcp" }, ["dns"]), ({ $0.dnsServer = "9.9.9.9" }, ["dns-server"]),
    ({ $0.udpRelay = "control" }, ["udp-relay"]),
    ({ $0.udpAssociations = 5 }, ["udp-associations"]),
    ({ $0.udpPerClient = 5 }, ["udp-per-client"]), ({ $0.onExit = "closed" }, ["on-exit"]),
    ({ $0.onUpstreamDown = "open" }, ["on-upstream-down"]), ({ $0.tcp = "redirect" }, ["tcp"]),
    ({ $0.port = 1 }, ["port"]), ({ $0.workers = 1 }, ["workers"]),
    ({ $0.control = "/x" }, ["control"]), ({ $0.pool = 1 }, ["pool"]),
    ({ $0.earlyData = "on" }, ["early-data"]), ({ $0.tcpFastOpen = true }, ["tcp-fast-open"]),
    ({ $0.userTimeout = 1 }, ["user-timeout"]), ({ $0.congestion = "reno" }, ["congestion"]),
    ({ $0.controlGroup = "x" }, ["control-group"]),
    ({ $0.probeInterval = "5" }, ["probe-interval"]),
    ({ $0.probeTarget = "a.example:1" }, ["probe-target"]),
    ({ $0.probeTimeout = 5 }, ["probe-timeout"]),
    ({ $0.probeFailures = 5 }, ["probe-failures"]),
    ({ $0.metrics = "127.0.0.1:10882" }, ["metrics"]),
  ]

  @Test(arguments: later.indices)
  func takesARestart(_ index: Int) throws {
    let (change, names) = Self.later[index]
    let former = try Self.configuration()
    var configuration = former
    #expect(configuration.adopt(try Self.configuration(change)) == names)
    #expect(configuration == former)
    // What takes none takes effect beside it.
    #expect(configuration.adopt(try Self.configuration(change) { $0.idleTimeout = 3 }) == names)
    #expect(configuration == (try Self.configuration { $0.idleTimeout = 3 }))
  }
}
