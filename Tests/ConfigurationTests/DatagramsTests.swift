import Addressing
import Testing

@testable import Configuration

struct DatagramsTests {
  @Test(arguments: [
    ("192.0.2.53", "192.0.2.53:53"), ("192.0.2.53:5353", "192.0.2.53:5353"),
    ("127.0.0.53", "127.0.0.53:53"), ("2001:db8::53", "[2001:db8::53]:53"),
    ("[2001:db8::53]", "[2001:db8::53]:53"), ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
    ("::1", "[::1]:53"),
  ])
  func resolvers(_ text: String, _ expected: String) throws {
    #expect(try parseResolver(text, "--dns-server").description == expected)
  }

  @Test(arguments: [
    "", "dns.example", "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:65536", "192.0.2.053",
    "[192.0.2.53]", "[192.0.2.53]:53", "[2001:db8::53", "2001:db8::53]", "[]:53", ":53",
    "[[::1]]", "0.0.0.0", "[::]:53", "224.0.0.251:5353", "ff02::fb", "255.255.255.255",
  ])
  func noResolver(_ text: String) {
    let error = #expect(throws: ConfigurationError.self) {
      try parseResolver(text, "--dns-server")
    }
    #expect(error?.description.hasPrefix("--dns-server \(text): expected") == true)
  }

  @Test(
    arguments: [
      ("auto", .automatic), ("reported", .reported), ("control", .control),
      ("192.0.2.1", fixed("192.0.2.1", nil)), ("192.0.2.1:1080", fixed("192.0.2.1", 1080)),
      ("2001:db8::1", fixed("2001:db8::1", nil)), ("[2001:db8::1]:9", fixed("2001:db8::1", 9)),
    ] as [(String, UDPRelay)])
  func relays(_ text: String, _ expected: UDPRelay) throws {
    var options = Options()
    options.udpRelay = text
    #expect(try Datagrams(options).relay == expected)
  }

  private static func fixed(_ text: String, _ port: UInt16?) -> UDPRelay {
    guard let address = IPAddress(text) else { preconditionFailure("\(text) is no address") }
    return .fixed(address, port: port)
  }
}
