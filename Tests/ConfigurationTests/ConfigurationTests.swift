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
    Fault("--gateway") { $0.gateways = ["eth*"] },
    Fault("--workers") { $0.workers = 0 },
    Fault("--connect-timeout") { $0.connectTimeout = 0 },
    Fault("--idle-timeout") { $0.idleTimeout = Configuration.maximumTimeout + 1 },
    Fault("--drain-timeout") { $0.drainTimeout = -5 },
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

  /// A URL that may hold a password is not repeated.
  @Test func passwordStaysOutOfTheMessage() {
    let error = #expect(throws: ConfigurationError.self) {
      try Configuration(options { $0.upstream = "socks5://ann:s3cret@host:99999" })
    }
    #expect(error?.description.contains("s3cret") == false)
  }
}
