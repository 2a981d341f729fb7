import Addressing
import NFTables
import TestSupport
import Testing

struct AddressRangeTests {
  @Test(arguments: [
    (blocks("10.0.0.0/8"), ["10.0.0.0/8"]),
    (blocks("10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8"), ["10.0.0.0/8"]),
    (blocks("10.0.0.0/9", "10.128.0.0/9"), ["10.0.0.0/8"]),
    (blocks("10.0.0.1/32", "10.0.0.2/32"), ["10.0.0.1-10.0.0.2"]),
    (blocks("10.0.0.3/32", "10.0.0.1/32"), ["10.0.0.1", "10.0.0.3"]),
    (blocks("255.255.255.255/32", "255.255.255.254/32"), ["255.255.255.254/31"]),
    (blocks("128.0.0.0/1", "0.0.0.0/1", "::/0"), ["0.0.0.0/0"]),
    (blocks("::/0"), []),
  ])
  func mergesIPv4(_ blocks: [CIDR], expected: [String]) {
    #expect(AddressRange.merging(blocks, .v4).map(\.description) == expected)
  }

  @Test(arguments: [
    (blocks("2001:db8::/33", "2001:db8:8000::/33"), ["2001:db8::/32"]),
    (blocks("::/128", "::1/128"), ["::/127"]),
    (blocks("::ffff:ffff:ffff:ffff/128", "0:0:0:1::/128"), ["::ffff:ffff:ffff:ffff-0:0:0:1::"]),
    (blocks("ffff::/16", "fffe::/16"), ["fffe::/15"]),
  ])
  func mergesIPv6(_ blocks: [CIDR], expected: [String]) {
    #expect(AddressRange.merging(blocks, .v6).map(\.description) == expected)
  }

  @Test func endsBehindItsLastAddress() {
    func end(_ text: String, _ family: IPFamily) -> IPAddress? {
      AddressRange.merging(blocks(text), family).first?.end
    }
    #expect(end("10.0.0.0/8", .v4) == IPAddress("11.0.0.0"))
    #expect(end("224.0.0.0/3", .v4) == nil)
    #expect(end("::/64", .v6) == IPAddress("0:0:0:1::"))
    #expect(end("ff00::/8", .v6) == nil)
  }

  /// Random blocks within the first or the last 256 addresses of a family: the ranges cover exactly the
  /// addresses that some block contains, and leave a gap between any two.
  @Test(arguments: ["0.0.0.0", "255.255.255.0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00"])
  func coversWhatTheBlocksCover(start: String) throws {
    let base = try #require(IPAddress(start))
    let family: IPFamily = base.isIPv4 ? .v4 : .v6
    var generator = SplitMix(seed: 42)
    for _ in 0..<500 {
      var covered = Set<Int>()
      var blocks: [CIDR] = []
      for _ in 0..<Int.random(in: 0...12, using: &generator) {
        let length = base.bitWidth - Int.random(in: 0...6, using: &generator)
        let offset = Int.random(in: 0...255, using: &generator)
        let block = try #require(CIDR(base.advanced(by: offset), prefixLength: length))
        blocks.append(block)
        covered.formUnion((0...255).filter { block.contains(base.advanced(by: $0)) })
      }
      let ranges = AddressRange.merging(blocks, family).map {
        $0.first.lastByte...$0.last.lastByte
      }
      #expect(Set(ranges.flatMap { Array($0) }) == covered)
      #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound + 1 < $1.lowerBound })
    }
  }
}

extension IPAddress {
  fileprivate var lastByte: Int { bytes.last.map { Int($0) } ?? 0 }

  /// The address whose last byte is higher by `offset`; that of this one is zero.
  fileprivate func advanced(by offset: Int) -> IPAddress {
    switch self {
    case .v4(let address): .v4(IPv4Address(bits: address.bits + UInt32(offset)))
    case .v6(let address): .v6(IPv6Address(high: address.high, low: address.low + UInt64(offset)))
    }
  }
}
