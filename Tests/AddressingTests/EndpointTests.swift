import Addressing
import TestSupport
import Testing

struct EndpointTests {
  @Test(arguments: [
    ("192.0.2.1:80", "192.0.2.1", 80), ("0.0.0.0:0", "0.0.0.0", 0),
    ("[2001:db8::1]:443", "2001:db8::1", 443), ("[::]:65535", "::", 65535),
    ("[::ffff:192.0.2.1]:1", "::ffff:192.0.2.1", 1),
  ])
  func socketAddress(_ text: String, _ address: String, _ port: UInt16) throws {
    let expected = SocketAddress(try #require(IPAddress(address)), port)
    #expect(SocketAddress(text) == expected)
    #expect(expected.description == text)
    #expect(Endpoint(text) == .address(expected))
    #expect(Endpoint.address(expected).description == text)
    #expect(Endpoint.address(expected).port == port)
  }

  @Test(arguments: [
    "", ":", ":80", "192.0.2.1", "192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1:+1",
    "192.0.2.1: 1", "192.0.2.1:1 ", "192.0.2.1:000080", "192.0.2.1:8x", "192.0.2.1:80:80",
    "2001:db8::1:80", "::1:80", "[::1]", "[::1]:", "[::1]80", "[::1:80", "::1]:80", "[]:80", "[:80",
    "]:80", "[[::1]]:80", "[192.0.2.1]:80", "[::1%lo]:80", "[example.com]:80", "192.0.2.1:８０",
  ])
  func notASocketAddress(_ text: String) {
    #expect(SocketAddress(text) == nil)
  }

  @Test(arguments: [
    ("example.com:80", "example.com", 80), ("x:0", "x", 0), ("localhost:65535", "localhost", 65535),
    ("bücher.example:1", "bücher.example", 1), ("a_b-c.:9", "a_b-c.", 9),
  ])
  func name(_ text: String, _ host: String, _ port: UInt16) throws {
    let expected = Endpoint.name(try #require(HostName(host)), port: port)
    #expect(Endpoint(text) == expected)
    #expect(expected.description == text)
    #expect(expected.port == port)
  }

  @Test(arguments: [
    "", ":", ":80", "example.com", "example.com:", "example.com:65536", "example.com:http",
    "a b:80", "a\n:80", "a\0b:80", "\u{7F}:80", "a:b:80", "2001:db8::1:80", "[::1:80", "::1]:80",
    "[]:80", "[example.com]:80", "[192.0.2.1]:80", "[::1%lo]:80",
  ])
  func notAnEndpoint(_ text: String) {
    #expect(Endpoint(text) == nil)
  }

  @Test func nameLengths() {
    #expect(HostName("") == nil)
    #expect(HostName(String(repeating: "n", count: 255)) != nil)
    #expect(HostName(String(repeating: "n", count: 256)) == nil)
    // The limit counts bytes: 127 characters of two bytes each fit, 128 do not.
    #expect(HostName(String(repeating: "ü", count: 127)) != nil)
    #expect(HostName(String(repeating: "ü", count: 128)) == nil)
  }

  @Test func unmapped() throws {
    #expect(
      try #require(SocketAddress("[::ffff:192.0.2.1]:80")).unmapped
        == SocketAddress("192.0.2.1:80"))
    for text in ["192.0.2.1:80", "[::192.0.2.1]:80", "[2001:db8::1]:80"] {
      let address = try #require(SocketAddress(text))
      #expect(address.unmapped == address)
    }
  }

  @Test func everyPort() {
    for port in 0...70_000 {
      #expect(UInt16(decimalPort: "\(port)") == UInt16(exactly: port))
    }
  }

  @Test func randomAddressesComeBack() {
    var generator = SplitMix(seed: 3)
    for _ in 0..<5_000 {
      let port = UInt16.random(in: 0...UInt16.max, using: &generator)
      let bits = generator.next()
      let v4 = SocketAddress(.v4(IPv4Address(bits: UInt32(truncatingIfNeeded: bits))), port)
      let v6 = SocketAddress(.v6(IPv6Address(high: generator.next(), low: bits)), port)
      for address in [v4, v6] {
        #expect(SocketAddress(address.description) == address)
        #expect(Endpoint(address.description) == .address(address))
      }
    }
  }
}
