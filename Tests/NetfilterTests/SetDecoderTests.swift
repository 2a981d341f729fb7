import Addressing
import NFTables
import TestSupport
import Testing

@testable import Netfilter

/// The keys of a set, in whatever order, are read as the same set.
struct SetDecoderTests {
  @Test(arguments: [
    NamedSet("s", hosts: addresses("192.0.2.1", "192.0.2.9", "255.255.255.255"), .v4),
    NamedSet("s", hosts: addresses("2001:db8::1", "::", "fe80::7"), .v6),
    NamedSet("s", blocks: blocks("10.0.0.0/8", "192.0.2.1", "224.0.0.0/3"), .v4),
    NamedSet("s", blocks: blocks("0.0.0.0/0"), .v4),
    NamedSet("s", blocks: blocks("::1", "fc00::/7", "ff00::/8"), .v6),
    NamedSet("s", blocks: blocks("::/0"), .v6),
    NamedSet("s", interfaces: ["lan0", "eth10", "b"]),
    NamedSet("s", interfaces: ["lan0", "eth10", "br-*", "fifteen-letters", "a*"]),
    NamedSet("s", interfaces: ["*"]),
    NamedSet("s", interfaceGroups: [0, 7, .max]),
    NamedSet("s", .user, [0...0, 1000...1999, .max - 1 ... .max]),
    NamedSet("s", .group, [0 ... .max]),
    NamedSet("s", hardwareAddresses: [HardwareAddress("02:00:5e:10:00:01")!]),
    NamedSet("s", ports: [0...22, 80...80, 1024...65535]),
    NamedSet("s", icmpTypes: ICMPType.errors, .v4),
    NamedSet("s", icmpTypes: ICMPType.errors + ICMPType.linkControl, .v6),
    NamedSet("s", addressTypes: [.local, .broadcast, .anycast, .multicast]),
  ])
  func readsWhatIsWritten(_ set: NamedSet) {
    var generator = SplitMix(seed: 1)
    let keys = SetElement.all(of: set.elements).shuffled(using: &generator)
    var decoder = SetDecoder(kind(of: set))
    #expect(elements(keys, of: set, &decoder) == set.elements)
    #expect(decoder.remarks.isEmpty)
  }

  @Test(arguments: 0..<100)
  func readsRandomRanges(seed: UInt64) {
    var generator = SplitMix(seed: seed)
    let ranges = (0..<generator.next(below: 40)).map { _ in
      let first = UInt16(generator.next(below: 65536))
      return first...UInt16(UInt64(first) + generator.next(below: 65536 - UInt64(first)))
    }
    let set = NamedSet("s", ports: ranges)
    var decoder = SetDecoder(kind(of: set))
    #expect(
      elements(
        SetElement.all(of: set.elements).shuffled(using: &generator), of: set, &decoder)
        == set.elements)
  }

  /// As nft leaves them: an end before the first range.
  @Test func readsRangesThatTouch() {
    let bounds = [(0, true), (5, false), (9, true), (9, false), (20, true)].map {
      SetDecoder.Bound(key: $0.0, isEnd: $0.1)
    }
    var decoder = SetDecoder(.ports([]))
    #expect(decoder.elements(bounds) == .ports([5...8, 9...19]))
  }

  /// The kernel has no such set; a reader does not stop at it all the same.
  @Test func survivesBoundsWithoutSense() {
    let bounds = [(0, false), (0, false), (7, true), (7, true), (9, false), (9, true)].map {
      SetDecoder.Bound(key: $0.0, isEnd: $0.1)
    }
    var decoder = SetDecoder(.ports([]))
    #expect(decoder.elements(bounds) == .ports([0...6, 9...65535]))
  }

  @Test func keepsWhatNoElementSays() {
    var decoder = SetDecoder(.addressTypes([]))
    #expect(decoder.elements([[2, 0, 0, 0], [6, 0, 0, 0]]) == .addressTypes([.local]))
    #expect(decoder.remarks == ["element 0x06000000"])
  }

  @Test func namesUnknownNumbers() {
    var types = SetDecoder(.icmpTypes(.v4, []))
    #expect(NamedSet("s", types.elements([[8]])).description.contains("elements = { 8 }"))
    var groups = SetDecoder(.controlGroups([]))
    let number = UInt64.max
    #expect(
      NamedSet("s", groups.elements([hostBytes(number)])).description
        .contains(#"elements = { "\#(number)" }"#))
  }

  @Test func knowsEachTypeByItsNumber() {
    for number in UInt32(0)..<100 {
      for isInterval in [false, true] {
        guard let kind = KeyType.elements(number, isInterval: isInterval) else { continue }
        #expect(KeyType(kind).number == number)
        #expect(NamedSet("s", kind).isInterval == isInterval)
      }
    }
  }

  // MARK: Pieces

  private func kind(of set: NamedSet) -> NamedSet.Elements {
    KeyType.elements(KeyType(set.elements).number, isInterval: set.isInterval)!
  }

  private func elements(_ keys: [SetElement], of set: NamedSet, _ decoder: inout SetDecoder)
    -> NamedSet.Elements
  {
    guard set.isInterval else { return decoder.elements(keys.map(\.key)) }
    return decoder.elements(
      keys.map { element in
        SetDecoder.Bound(
          key: element.key.reduce(0) { $0 << 8 | UInt128($1) }, isEnd: element.isEnd)
      })
  }
}

private func addresses(_ texts: String...) -> [IPAddress] { texts.map { IPAddress($0)! } }

private func blocks(_ texts: String...) -> [CIDR] { texts.map { CIDR($0)! } }
