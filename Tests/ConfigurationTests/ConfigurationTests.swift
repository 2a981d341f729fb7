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
    #expect(configuration.machine)
    #expect(configuration.gateways.isEmpty)
    #expect(configuration.tcp == nil)
    #expect(configuration.port == 10880)
    #expect(configuration.bypass.isEmpty)
    #expect(!configuration.proxyPrivate)
    #expect(configuration.workers == nil)
    #expect(configuration.timeouts == Configuration.Timeouts())
  }

  @Test func withoutAnUpstreamTheEmbeddedServerIsUsed() throws {
    #expect(try Configuration(options { $0.upstream = nil }).upstream == .embedded)
  }

  @Test func everythingSet() throws {
    let configuration = try Configuration(
      options {
        $0.machine = false
        $0.gateways = ["lan0", "wlan0.7"]
        $0.tcp = "redirect"
        $0.port = 65534
        $0.bypass = ["198.51.100.0/24", "2001:db8::1"]
        $0.proxyPrivate = true
        $0.workers = 1
        $0.connectTimeout = 1
        $0.handshakeTimeout = 2
        $0.idleTimeout = 3
        $0.halfCloseTimeout = 4
        $0.drainTimeout = 0
      })
    #expect(configuration.gateways == ["lan0", "wlan0.7"])
    #expect(configuration.tcp == .redirect)
    #expect(configuration.bypass.map(\.description) == ["198.51.100.0/24", "2001:db8::1"])
    #expect(configuration.workers == 1)
    #expect(
      configuration.timeouts
        == Configuration.Timeouts(connect: 1, handshake: 2, idle: 3, halfClose: 4, drain: 0))
  }

  /// Each message names the setting and what was expected.
  @Test(
    arguments: [
      ("--machine", { $0.machine = false }),
      ("--tcp", { $0.tcp = "divert" }),
      ("--port", { $0.port = 65535 }),
      ("--port", { $0.port = 0 }),
      ("--port", { $0.port = -1 }),
      ("--bypass", { $0.bypass = ["10.0.0.1/8"] }),
      ("--bypass", { $0.bypass = ["example.org"] }),
      ("--gateway", { $0.gateways = [""] }),
      ("--gateway", { $0.gateways = ["a-name-longer-than-15"] }),
      ("--gateway", { $0.gateways = ["eth0\" drop"] }),
      ("--gateway", { $0.gateways = [".."] }),
      ("--gateway", { $0.gateways = ["eth*"] }),
      ("--workers", { $0.workers = 0 }),
      ("--connect-timeout", { $0.connectTimeout = 0 }),
      ("--idle-timeout", { $0.idleTimeout = Configuration.maximumTimeout + 1 }),
      ("--drain-timeout", { $0.drainTimeout = -5 }),
      ("socks5", { $0.upstream = "nonsense://host" }),
    ] as [(String, @Sendable (inout Options) -> Void)])
  func refused(named: String, change: @Sendable (inout Options) -> Void) {
    let error = #expect(throws: ConfigurationError.self) {
      try Configuration(options(change))
    }
    #expect(error?.description.contains(named) == true)
    #expect(error?.description.contains("\n") == false)
  }
}
