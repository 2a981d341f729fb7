import Addressing
import TestSupport
import Testing

struct IPAddressTests {
  @Test(arguments: [
    ("127.0.0.1", true, false), ("127.255.255.255", true, false), ("128.0.0.1", false, false),
    ("126.255.255.255", false, false), ("0.0.0.0", false, true), ("0.0.0.1", false, false),
    ("::1", true, false), ("::", false, true), ("::2", false, false), ("1::1", false, false),
  ])
  func kinds(_ text: String, _ isLoopback: Bool, _ isUnspecified: Bool) throws {
    let address = try #require(IPAddress(text))
    #expect(address.isLoopback == isLoopback)
    #expect(address.isUnspecified == isUnspecified)
    #expect(address.isIPv4 == !text.contains(":"))
    #expect(address.bitWidth == (address.isIPv4 ? 32 : 128))
    #expect(address.bytes.count == address.bitWidth / 8)
  }

  @Test func bytesAreInNetworkOrder() throws {
    #expect(try #require(IPAddress("192.0.2.1")).bytes == [192, 0, 2, 1])
    #expect(
      try #require(IPAddress("102:304:506:708:90a:b0c:d0e:f10")).bytes == Array(UInt8(1)...16))
  }

  @Test func orderIsNumeric() throws {
    let ascending = ["::", "::1", "::ffff:0:0", "0:0:0:1::", "1::", "ffff::"]
    let addresses = try ascending.map { try #require(IPv6Address($0)) }
    for (index, address) in addresses.enumerated() {
      for (otherIndex, other) in addresses.enumerated() {
        #expect((address < other) == (index < otherIndex))
      }
    }
    #expect(try #require(IPv4Address("9.0.0.0")) < #require(IPv4Address("10.0.0.0")))
  }
}

struct CIDRTests {
  @Test(arguments: [
    ("0.0.0.0/0", "0.0.0.0/0", "255.255.255.255"), ("10.0.0.0/8", "10.0.0.0/8", "10.255.255.255"),
    ("192.0.2.128/25", "192.0.2.128/25", "192.0.2.255"),
    ("192.0.2.1/32", "192.0.2.1", "192.0.2.1"), ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
    ("::/0", "::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("8000::/1", "8000::/1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fe80::/10", "fe80::/10", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:db8::/63", "2001:db8::/63", "2001:db8:0:1:ffff:ffff:ffff:ffff"),
    ("2001:db8::/64", "2001:db8::/64", "2001:db8::ffff:ffff:ffff:ffff"),
    ("2001:db8::/65", "2001:db8::/65", "2001:db8::7fff:ffff:ffff:ffff"),
    ("::ffff:0:0/96", "::ffff:0.0.0.0/96", "::ffff:255.255.255.255"),
    ("::1/128", "::1", "::1"), ("::1", "::1", "::1"),
  ])
  func textBothWays(_ text: String, _ canonical: String, _ last: String) throws {
    let block = try #require(CIDR(text))
    #expect(block.description == canonical)
    #expect(CIDR(canonical) == block)
    #expect(block.last == IPAddress(last))
    #expect(block.contains(block.base))
    #expect(block.contains(block.last))
  }

  @Test(arguments: [
    "", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8/8",
    "10.0.0.0/ 8", "10.0.0.0/8 ", "10.0.0.0/99999", "10.0.0.0/999999", "10.0.0.1/8", "10/8",
    "::/129", "::1/127", "2001:db8::1/64", "[::]/0", "10.0.0.0/255.0.0.0", "example.com/8",
  ])
  func refused(_ text: String) {
    #expect(CIDR(text) == nil)
  }

  @Test func prefixLengthBeyondTheFamily() {
    #expect(CIDR(.v4(.any), prefixLength: 33) == nil)
    #expect(CIDR(.v4(.any), prefixLength: -1) == nil)
    #expect(CIDR(.v6(.any), prefixLength: 129) == nil)
    #expect(CIDR(.v6(.any), prefixLength: 33) != nil)
  }

  @Test func familiesDoNotMix() throws {
    #expect(!(try #require(CIDR("0.0.0.0/0")).contains(.v6(.any))))
    #expect(!(try #require(CIDR("::/0")).contains(.v4(.any))))
    #expect(!(try #require(CIDR("::/128")).contains(.v4(.any))))
  }

  /// Membership is equality of the first `prefixLength` bits, looked at one by one.
  @Test func agreesWithBits() throws {
    func bits(_ address: IPAddress) -> [UInt8] {
      address.bytes.flatMap { byte in (0..<8).map { byte >> (7 - $0) & 1 } }
    }
    func flipped(_ address: IPAddress, _ bit: Int) -> IPAddress {
      switch address {
      case .v4(let v4): .v4(IPv4Address(bits: v4.bits ^ 1 << UInt32(31 - bit)))
      case .v6(let v6) where bit < 64:
        .v6(IPv6Address(high: v6.high ^ 1 << UInt64(63 - bit), low: v6.low))
      case .v6(let v6): .v6(IPv6Address(high: v6.high, low: v6.low ^ 1 << UInt64(127 - bit)))
      }
    }
    var generator = SplitMix(seed: 1)
    for text in ["198.51.100.77", "2001:db8:1234:5678:9abc:def0:1357:2468"] {
      let address = try #require(IPAddress(text))
      for length in 0...address.bitWidth {
        let block = try #require(CIDR(address, prefixLength: length))
        #expect(bits(block.base)[..<length] == bits(address)[..<length])
        #expect(bits(block.base)[length...].allSatisfy { $0 == 0 })
        #expect(bits(block.last)[length...].allSatisfy { $0 == 1 })
        #expect(block.contains(address))
        let bit = Int.random(in: 0..<address.bitWidth, using: &generator)
        for bit in [bit, max(length - 1, 0), min(length, address.bitWidth - 1)] {
          #expect(block.contains(flipped(address, bit)) == (bit >= length))
        }
      }
    }
  }
}
