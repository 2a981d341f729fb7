import Addressing
import TestSupport
import Testing

struct IPv6AddressTests {
  /// Accepted text, and its canonical form; most are the examples of RFC 4291, section 2.2, and of
  /// RFC 5952, sections 1 to 5.
  @Test(arguments: [
    ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("0:0:0:0:0:0:0:0", "::"),
    ("ABCD:EF01:2345:6789:ABCD:EF01:2345:6789", "abcd:ef01:2345:6789:abcd:ef01:2345:6789"),
    ("2001:DB8:0:0:8:800:200C:417A", "2001:db8::8:800:200c:417a"),
    ("FF01:0:0:0:0:0:0:101", "ff01::101"), ("0:0:0:0:0:0:0:1", "::1"),
    ("0:0:0:0:0:0:13.1.68.3", "::d01:4403"), ("::13.1.68.3", "::d01:4403"),
    ("0:0:0:0:0:FFFF:129.144.52.38", "::ffff:129.144.52.38"),
    ("::FFFF:8190:3426", "::ffff:129.144.52.38"), ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
    ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
    ("2001:0db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"), ("2001:db8::1:0:0:1", "2001:db8::1:0:0:1"),
    ("2001:db8::0:1:0:0:1", "2001:db8::1:0:0:1"), ("2001:DB8:0:0:1::1", "2001:db8::1:0:0:1"),
    ("2001:db8:aaaa:bbbb:cccc:dddd:eeee:0001", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:1"),
    ("2001:db8:0000:0:1::1", "2001:db8::1:0:0:1"),
    ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
    ("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"), ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
    ("1:0:0:2:0:0:3:4", "1::2:0:0:3:4"), ("0:0:1:1:1:0:0:0", "0:0:1:1:1::"),
    ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
    ("1:2:3:4:5:6:255.255.255.255", "1:2:3:4:5:6:ffff:ffff"),
    ("fe80::0000:0001", "fe80::1"),
  ])
  func canonicalForm(_ text: String, _ canonical: String) throws {
    let address = try #require(IPv6Address(text))
    #expect(address.description == canonical)
    #expect(IPv6Address(canonical) == address)
    #expect(parsedByLibrary(text) == IPAddress.v6(address).bytes)
  }

  @Test(arguments: [
    "", ":", ":::", "::::", "1", "1:2", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:", ":1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:", ":1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::",
    "::1:2:3:4:5:6:7:8", "1::2::3", "1:::2", "::1::", "12345::", "1:00001::", "g::", "-1::", "+1::",
    "::-1", "0x1::", "::1%eth0", "fe80::1%1", "[::1]", " ::1", "::1 ", "::1\0", "::1\n", "::1/64",
    "::1.2.3", "::1.2.3.256", "::01.2.3.4", "::1.2.3.4:5", "1.2.3.4::", "1.2.3.4",
    "1:2:3:4:5:6:7:1.2.3.4", "1:2:3:4:5:1.2.3.4", "::1.2.3.4.5", "::.1.2.3", "::1..2.3",
    "1:2:3:4:5:6:7:8\u{301}", "::１", "::1\u{200B}", ".::", "::.",
  ])
  func refused(_ text: String) {
    #expect(IPv6Address(text) == nil)
  }

  @Test func longTextIsRefused() {
    #expect(IPv6Address(String(repeating: ":", count: 100_000)) == nil)
    #expect(IPv6Address(String(repeating: "0:", count: 100_000) + "0") == nil)
    #expect(IPv6Address("::" + String(repeating: "0", count: 100_000)) == nil)
  }

  @Test func mappedAddress() {
    #expect(IPv6Address("::ffff:192.0.2.1")?.mappedIPv4 == IPv4Address("192.0.2.1"))
    #expect(IPv6Address("::ffff:0:0")?.mappedIPv4 == .any)
    #expect(IPv6Address("::192.0.2.1")?.mappedIPv4 == nil)
    #expect(IPv6Address("1::ffff:192.0.2.1")?.mappedIPv4 == nil)
    #expect(IPv6Address("::fffe:ffff:192.0.2.1")?.mappedIPv4 == nil)
  }

  /// An address of eight groups of which each is zero, short or long.
  private func randomAddress(using generator: inout SplitMix) -> IPv6Address {
    let groups = (0..<8).map { _ in
      [0, 0, 0, UInt64.random(in: 0...0xFFFF, using: &generator), 0xFFFF, 1].randomElement(
        using: &generator) ?? 0
    }
    return IPv6Address(
      high: groups[..<4].reduce(0) { $0 << 16 | $1 }, low: groups[4...].reduce(0) { $0 << 16 | $1 })
  }

  @Test func everyPatternOfZeroGroups() {
    for pattern in 0..<256 {
      let groups = (0..<8).map { pattern >> $0 & 1 == 0 ? 0 : UInt64($0 + 1) << 8 }
      let address = IPv6Address(
        high: groups[..<4].reduce(0) { $0 << 16 | $1 },
        low: groups[4...].reduce(0) { $0 << 16 | $1 })
      #expect(address.description == slowDescription(address))
      #expect(IPv6Address(address.description) == address)
    }
  }

  @Test func agreesWithModelAndLibrary() {
    var generator = SplitMix(seed: 6)
    for _ in 0..<5_000 {
      let address = randomAddress(using: &generator)
      #expect(address.description == slowDescription(address))
      #expect(IPv6Address(address.description) == address)
      #expect(parsedByLibrary(address.description) == IPAddress.v6(address).bytes)
    }
  }

  @Test func parsesWhatTheLibraryParses() {
    var generator = SplitMix(seed: 7)
    var accepted = 0
    for _ in 0..<20_000 {
      let address = randomAddress(using: &generator)
      let tail = ["", "", ":1.2.3.4", "::", ":0:0"].randomElement(using: &generator) ?? ""
      let text = spoilt(address.description + tail, using: &generator)
      #expect(IPAddress(text)?.bytes == parsedByLibrary(text), "\(text)")
      if IPAddress(text) != nil { accepted += 1 }
    }
    #expect(accepted > 4_000)
  }
}

/// RFC 5952, sections 4 and 5, word for word: of all ways to write the address, the one whose "::"
/// stands for most groups, two at least, and the first of these.
private func slowDescription(_ address: IPv6Address) -> String {
  let bytes = IPAddress.v6(address).bytes
  let groups = (0..<8).map { Int(bytes[2 * $0]) << 8 | Int(bytes[2 * $0 + 1]) }
  if groups[..<6] == [0, 0, 0, 0, 0, 0xFFFF] {
    return "::ffff:" + bytes[12...].map { String($0) }.joined(separator: ".")
  }
  func text(_ groups: ArraySlice<Int>) -> String {
    groups.map { String($0, radix: 16) }.joined(separator: ":")
  }
  for length in stride(from: 8, through: 2, by: -1) {
    for start in 0...8 - length where groups[start..<start + length].allSatisfy({ $0 == 0 }) {
      return text(groups[..<start]) + "::" + text(groups[(start + length)...])
    }
  }
  return text(groups[...])
}
