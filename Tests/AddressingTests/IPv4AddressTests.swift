import Addressing
import TestSupport
import Testing

struct IPv4AddressTests {
  @Test(arguments: [
    ("0.0.0.0", 0), ("127.0.0.1", 0x7F00_0001), ("192.0.2.1", 0xC000_0201),
    ("1.20.255.100", 0x0114_FF64), ("255.255.255.255", 0xFFFF_FFFF),
  ])
  func textBothWays(_ text: String, _ bits: UInt32) {
    #expect(IPv4Address(text) == IPv4Address(bits: bits))
    #expect(IPv4Address(bits: bits).description == text)
    #expect(IPAddress(text) == .v4(IPv4Address(bits: bits)))
  }

  @Test(arguments: [
    "", ".", "...", "1", "1.2", "1.2.3", "1.2.3.", ".1.2.3", "1..2.3", "1.2.3.4.", "1.2.3.4.5",
    "256.0.0.1", "1.2.3.256", "1.2.3.999", "1.2.3.1000", "1.2.3.4294967296",
    "01.2.3.4", "1.2.3.04", "00.0.0.0", "0x1.2.3.4", "1.2.3.a", "1.2.3.-4", "+1.2.3.4", "1.2.3.4 ",
    " 1.2.3.4", "1.2.3.4\n", "1.2.3.4\0", "1.2.3.4/8", "1.2.3.4:80", "1,2,3,4", "1.2.3.٤",
    "1.2.3.4\u{301}", "１.2.3.4",
  ])
  func refused(_ text: String) {
    #expect(IPv4Address(text) == nil)
  }

  @Test func everyOctet() {
    for octet in UInt32(0)...999 {
      for (text, bits) in [
        ("\(octet).0.0.0", octet << 24), ("9.\(octet).8.7", 0x0900_0807 | octet << 16),
        ("0.0.0.\(octet)", octet),
      ] {
        #expect(IPv4Address(text) == (octet <= 255 ? IPv4Address(bits: bits) : nil))
      }
    }
  }

  @Test func agreesWithTheLibrary() {
    var generator = SplitMix(seed: 4)
    for _ in 0..<5_000 {
      let address = IPv4Address(bits: UInt32.random(in: 0...UInt32.max, using: &generator))
      #expect(parsedByLibrary(address.description) == IPAddress.v4(address).bytes)
      #expect(IPv4Address(address.description) == address)
      let text = spoilt(address.description, using: &generator)
      #expect(IPAddress(text)?.bytes == parsedByLibrary(text), "\(text)")
    }
  }
}
