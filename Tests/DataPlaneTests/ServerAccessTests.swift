import Addressing
import Testing

@testable import DataPlane

/// Who may reach what by the embedded server.
struct ServerAccessTests {
  private func pattern(_ text: String) throws -> DestinationPattern {
    try #require(DestinationPattern(text), "\(text) is no destination")
  }

  private func address(_ text: String) throws -> SocketAddress {
    try #require(SocketAddress(text), "\(text) is no address")
  }

  // MARK: Patterns

  @Test(arguments: [
    ("192.0.2.1", "192.0.2.1:80", true), ("192.0.2.1", "192.0.2.2:80", false),
    ("192.0.2.0/24", "192.0.2.255:1", true), ("192.0.2.0/24", "192.0.3.0:1", false),
    ("192.0.2.0/24:80", "192.0.2.1:80", true), ("192.0.2.0/24:80", "192.0.2.1:81", false),
    ("192.0.2.1:80-90", "192.0.2.1:80", true), ("192.0.2.1:80-90", "192.0.2.1:90", true),
    ("192.0.2.1:80-90", "192.0.2.1:79", false), ("192.0.2.1:80-90", "192.0.2.1:91", false),
    ("2001:db8::/32", "[2001:db8::1]:443", true), ("2001:db8::/32", "[2001:db9::1]:443", false),
    ("[2001:db8::1]:443", "[2001:db8::1]:443", true),
    ("[2001:db8::/32]:443", "[2001:db8::2]:444", false),
    ("[2001:db8::1]", "[2001:db8::1]:1", true), ("::1", "[::1]:1", true),
    ("0.0.0.0/0", "[2001:db8::1]:1", false), ("::/0", "192.0.2.1:1", false),
    ("*", "192.0.2.1:1", true), ("*", "[2001:db8::1]:1", true),
    ("*:25", "192.0.2.1:25", true), ("*:25", "192.0.2.1:26", false),
    ("example.com", "192.0.2.1:80", false), ("*.example.com:80", "192.0.2.1:80", false),
  ])
  func addresses(_ text: String, _ target: String, _ matches: Bool) throws {
    #expect(try pattern(text).matches(address(target)) == matches)
  }

  @Test(arguments: [
    ("example.com", "example.com", true), ("Example.COM.", "EXAMPLE.com", true),
    ("example.com", "example.com.", true), ("example.com", "www.example.com", false),
    ("example.com", "badexample.com", false),
    ("*.example.com", "www.example.com", true), ("*.example.com", "a.b.example.com.", true),
    ("*.example.com", "example.com", false), ("*.example.com", "badexample.com", false),
    ("*", "example.com", true), ("*:81", "example.com", false), ("*:80", "example.com", true),
    ("example.com:80", "example.com", true), ("example.com:443", "example.com", false),
    ("*.com:1-79", "example.com", false), ("0.0.0.0/0", "example.com", false),
  ])
  func names(_ text: String, _ name: String, _ matches: Bool) throws {
    let name = DestinationPattern.normalised(name)
    #expect(try pattern(text).matches(name: name, port: 80) == matches)
  }

  @Test(arguments: [
    "", ":", ":80", "*:", "*:0x50", "*:90-80", "*:80-", "*:-80", "*:65536", "192.0.2.1/24",
    "192.0.2.0/33", "192.0.2", "300.0.2.1", "192.0.2.1/", "[192.0.2.1]:80", "[2001:db8::1",
    "2001:db8::1]:80", "*.", "*.*.com", "w*.example.com", "a b", "a/b", "[example.com]:80",
  ])
  func malformed(_ text: String) {
    #expect(DestinationPattern(text) == nil)
  }

  // MARK: Rules

  private func access(_ allowed: [String], _ denied: [String]) throws -> ServerAccess {
    var access = ServerAccess()
    access.allowed = try allowed.map(pattern)
    access.denied = try denied.map(pattern)
    return access
  }

  @Test(arguments: [
    ([], [], ServerAccess.Verdict.allowed), (["example.com"], [], .allowed),
    (["*"], [], .allowed), (["192.0.2.0/24"], [], .undecided), (["other.com"], [], .undecided),
    ([], ["*.com"], .denied), (["example.com"], ["example.com"], .denied),
    ([], ["192.0.2.0/24"], .allowed), ([], ["example.com:443"], .allowed),
  ])
  func verdict(
    _ allowed: [String], _ denied: [String], _ expected: ServerAccess.Verdict
  ) throws {
    let name = try #require(HostName("Example.com"))
    #expect(try access(allowed, denied).verdict(on: name, port: 80) == expected)
  }

  private static let permissions: [([String], [String], String, isNamed: Bool, Bool)] = [
    ([], [], "192.0.2.1:80", false, true), ([], [], "192.0.2.1:80", true, true),
    (["192.0.2.0/24"], [], "192.0.2.1:80", false, true),
    (["192.0.2.0/24"], [], "198.51.100.1:80", false, false),
    // What a name leads to needs no rule of its own …
    (["example.com"], [], "198.51.100.1:80", true, true),
    (["example.com"], [], "198.51.100.1:80", false, false),
    // … but may not be denied: whoever owns the name chooses the address.
    (["example.com"], ["10.0.0.0/8"], "10.1.2.3:80", true, false),
    (["*"], ["10.0.0.0/8"], "[::ffff:10.1.2.3]:80", false, false),
    (["10.0.0.0/8"], ["10.0.0.0/8:22"], "10.1.2.3:22", false, false),
    (["10.0.0.0/8"], ["10.0.0.0/8:22"], "10.1.2.3:23", false, true),
    ([], ["127.0.0.0/8"], "0.0.0.0:80", false, false), ([], ["::1"], "[::]:80", false, false),
  ]

  @Test(arguments: permissions)
  func permission(
    _ allowed: [String], _ denied: [String], _ target: String, _ isNamed: Bool, _ expected: Bool
  ) throws {
    let access = try access(allowed, denied)
    for isLocal in [false, true] {
      #expect(
        try access.permits(address(target), isNamed: isNamed, isLocalClient: isLocal) == expected)
    }
  }

  /// Clients of other hosts do not reach the loopback, by no spelling and by no name.
  @Test(arguments: [
    "127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "0.0.0.0:80", "[::]:80", "[::ffff:127.0.0.1]:80",
    "[::ffff:0.0.0.0]:80",
  ])
  func loopback(_ target: String) throws {
    let target = try address(target)
    for allowed in [[], ["*"], ["0.0.0.0/0", "::/0"], ["localhost"]] {
      let access = try access(allowed, [])
      #expect(!access.permits(target, isNamed: true, isLocalClient: false))
      #expect(access.permits(target, isNamed: true, isLocalClient: true))
    }
    let named = try access(["127.0.0.0/8:80", "[::1]:80"], [])
    #expect(named.permits(target, isNamed: false, isLocalClient: false))
    #expect(
      !named.permits(
        SocketAddress(target.address, 81), isNamed: false, isLocalClient: false))
  }

  @Test func clients() throws {
    var access = ServerAccess()
    #expect(try access.admits(#require(IPAddress("192.0.2.1"))))
    access.clients = try ["192.0.2.0/24", "2001:db8::1"].map { try #require(CIDR($0)) }
    #expect(try access.admits(#require(IPAddress("192.0.2.255"))))
    #expect(try access.admits(#require(IPAddress("2001:db8::1"))))
    #expect(try !access.admits(#require(IPAddress("192.0.3.1"))))
    #expect(try !access.admits(#require(IPAddress("127.0.0.1"))))
    #expect(try !access.admits(#require(IPAddress("2001:db8::2"))))
  }
}
