import Addressing
import Testing

@testable import Configuration

/// Valid settings, to be spoilt in one place.
private func options(_ change: (inout ProgramOptions) -> Void = { _ in }) -> ProgramOptions {
  var options = ProgramOptions()
  options.engine.upstream = "socks5://proxy.example:1080"
  options.command = ["curl", "example.com"]
  change(&options)
  return options
}

struct ProgramConfigurationTests {
  @Test func defaults() throws {
    let configuration = try ProgramConfiguration(options())
    #expect(configuration.command == ["curl", "example.com"])
    #expect(configuration.publications.isEmpty)
    #expect(configuration.hostLoopback.isEmpty)
    #expect(configuration.preservedDescriptors == 0)
    #expect(configuration.linger == nil)
    #expect(configuration.audit == nil)
    #expect(configuration.daemon == nil)
  }

  @Test func daemonIsFoundByItsSocket() throws {
    func daemon(_ control: String?) throws -> String? {
      try ProgramConfiguration(
        options {
          $0.daemon = true
          $0.engine.upstream = nil
          $0.engine.control = control
        }
      ).daemon?.description
    }
    #expect(try daemon(nil) == "/run/sluice/control.sock")
    #expect(try daemon("/elsewhere") == "/elsewhere")
    #expect(throws: ConfigurationError.self) { try daemon("elsewhere") }
    let longest = "/" + String(repeating: "x", count: 106)
    #expect(try daemon(longest) == longest)
    #expect(throws: ConfigurationError.self) { try daemon(longest + "x") }
    #expect(throws: ConfigurationError.self) { try daemon("") }
  }

  @Test func portsAreRead() throws {
    let configuration = try ProgramConfiguration(
      options {
        $0.publish = ["8080:80", "9000"]
        $0.hostLoopback = ["5432", "1"]
      })
    #expect(
      configuration.publications == [
        .init(port: 8080, inside: 80), .init(port: 9000, inside: 9000),
      ])
    #expect(configuration.hostLoopback == [5432, 1])
  }

  @Test func lingerMayBeNothing() throws {
    #expect(try ProgramConfiguration(options { $0.linger = 0 }).linger == 0)
    #expect(try ProgramConfiguration(options { $0.linger = 5 }).linger == 5)
  }

  @Test func auditGoesToAFileWhereOneIsGiven() throws {
    #expect(try ProgramConfiguration(options { $0.audit = true }).audit == .standardError)
    let both = try ProgramConfiguration(
      options {
        $0.audit = true
        $0.auditFile = "list"
      })
    #expect(both.audit == .file("list"))
  }

  /// What is wrong, and what the message says of it.
  private static let wrong: [(change: @Sendable (inout ProgramOptions) -> Void, words: String)] = [
    ({ $0.command = [] }, "behind two dashes"),
    ({ $0.engine.udp = "bypass" }, "--udp bypass"),
    ({ $0.engine.ipv6 = "bypass" }, "--ipv6 bypass"),
    ({ $0.engine.upstream = "curl" }, "curl"),
    ({ $0.daemon = true }, "--daemon uses the upstream of the run"),
    ({ $0.engine.control = "/elsewhere" }, "--control says where"),
    (
      {
        $0.daemon = true
        $0.engine.upstream = nil
        $0.hostLoopback = ["80"]
      }, "--host-loopback"
    ),
    (
      {
        $0.daemon = true
        $0.engine.upstream = nil
        $0.engine.udpTimeout = 5
      }, "--udp-timeout is a matter of the run"
    ),
    (
      {
        $0.daemon = true
        $0.engine.upstream = nil
        $0.engine.passwordFile = "f"
      }, "--password-file is a matter of the run"
    ),
    (
      {
        $0.daemon = true
        $0.engine.upstream = nil
        $0.engine.halfClose = "hold"
      }, "--half-close is a matter of the run"
    ),
    ({ $0.engine.furtherUpstreams = ["a=socks5://b"] }, "leave out the name"),
    ({ $0.publish = [""] }, "--publish"),
    ({ $0.publish = ["80:"] }, "--publish 80:"),
    ({ $0.publish = ["1:2:3"] }, "--publish 1:2:3"),
    ({ $0.publish = ["0"] }, "1 to 65535"),
    ({ $0.publish = ["65536"] }, "1 to 65535"),
    ({ $0.publish = ["80", "80:81"] }, "twice"),
    ({ $0.hostLoopback = ["http"] }, "--host-loopback http"),
    ({ $0.hostLoopback = ["80", "80"] }, "twice"),
    ({ $0.preserveDescriptors = -1 }, "--preserve-fds -1"),
    ({ $0.preserveDescriptors = 1025 }, "--preserve-fds 1025"),
    ({ $0.linger = -1 }, "--linger -1"),
  ]

  @Test(arguments: wrong.indices) func errorsNameTheSetting(index: Int) {
    let (change, words) = Self.wrong[index]
    do {
      _ = try ProgramConfiguration(options(change))
      Issue.record("accepted")
    } catch {
      #expect(error.description.contains(words))
    }
  }
}
