import Addressing
import Configuration
import Testing

@testable import Daemon

struct ConfinedNamesTests {
  private static let stub = "# by systemd-resolved\nnameserver 127.0.0.53\nsearch example\n"

  private func names(
    _ programs: String, stub: String = "", upstream: String = "socks5://192.0.2.1",
    server: String? = nil
  ) throws -> ConfinedNames {
    var options = Options()
    options.machine = true
    options.upstream = upstream
    options.dnsServer = server
    let configuration = try Configuration(options)
    return ConfinedNames(
      configuration, configuration.upstream, NameServers(programs: programs, stub: stub))
  }

  @Test func resolverOfTheNetworkIsLeftAlone() throws {
    let names = try names("nameserver 192.0.2.53\nnameserver 127.0.0.1\n")
    #expect(names.resolver == nil && names.file == nil && !names.isLost)
  }

  @Test func behindAStubAreThoseThatItAsks() throws {
    let names = try names(Self.stub, stub: "nameserver 192.168.1.1\nnameserver 2001:db8::1\n")
    #expect(
      names.file
        == "# by systemd-resolved\nsearch example\nnameserver 192.168.1.1\nnameserver 2001:db8::1\n"
    )
    #expect(names.resolver == nil && !names.isLost)
  }

  @Test func chosenResolverGetsEverything() throws {
    let names = try names(Self.stub, server: "9.9.9.9")
    #expect(names.resolver == SocketAddress("9.9.9.9:53"))
    #expect(names.file == nil && !names.isLost)
  }

  /// A resolver on the loopback is reached by a server on the same host only.
  @Test func resolverOfThisHostAlone() throws {
    let embedded = try names("nameserver ::1\n", upstream: "embedded")
    #expect(embedded.resolver == SocketAddress("[::1]:53") && !embedded.isLost)
    let unsaid = try names("", upstream: "embedded")
    #expect(unsaid.resolver == SocketAddress("127.0.0.1:53"))
    let elsewhere = try names("nameserver ::1\n")
    #expect(elsewhere.isLost && elsewhere.resolver == nil && elsewhere.file == nil)
  }
}
