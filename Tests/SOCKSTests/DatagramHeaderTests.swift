import Addressing
import SOCKS
import TestSupport
import Testing

struct DatagramHeaderTests {
  @Test(
    arguments: [
      ("192.0.2.7:53", [0, 0, 0, 1, 192, 0, 2, 7, 0, 53]),
      ("0.0.0.0:0", [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
      (
        "[2001:db8::1]:65535",
        [0, 0, 0, 4, 0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255]
      ),
    ] as [(String, [UInt8])])
  func encodesAndDecodes(address: String, wire: [UInt8]) throws {
    let address = try #require(SocketAddress(address))
    let encoded = [UInt8](capacity: DatagramHeader.maximumAddressBytes) {
      DatagramHeader.encode(address, into: &$0)
    }
    #expect(encoded == wire)
    #expect(DatagramHeader.bytes(for: address) == wire.count)
    let header = try DatagramHeader.decode(from: (wire + [1, 2, 3]).span)
    #expect(header.endpoint == .address(address))
    #expect(header.bytes == wire.count)
  }

  @Test func decodesNames() throws {
    let wire: [UInt8] = [9, 9, 0, 3, 2, 0x61, 0x62, 0, 80, 7]
    let header = try DatagramHeader.decode(from: wire.span)
    #expect(header.endpoint == Endpoint("ab:80"))
    #expect(header.bytes == 9)
  }

  @Test(
    arguments: [
      ([], .truncated), ([0, 0, 0], .truncated), ([0, 0, 0, 1, 1, 2, 3, 4, 5], .truncated),
      ([0, 0, 0, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9], .truncated), ([0, 0, 0, 3], .truncated),
      ([0, 0, 0, 3, 255, 0x61, 0x62], .truncated),
      ([0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7], .fragment(1)), ([0, 0, 0x81, 9], .fragment(0x81)),
      ([0, 0, 0, 2, 1, 2, 3, 4, 5, 6], .unknownAddressType(2)),
      ([0, 0, 0, 3, 0, 0, 53], .invalidName), ([0, 0, 0, 3, 1, 0xFF, 0, 53], .invalidName),
    ] as [([UInt8], DatagramHeader.Problem)])
  func tellsWhatIsWrong(wire: [UInt8], problem: DatagramHeader.Problem) {
    #expect(throws: problem) { try DatagramHeader.decode(from: wire.span) }
  }

  /// Whatever arrives, the decoder gives a header that lies within it and reads the same when
  /// written anew, or a problem.
  @Test func isTotal() throws {
    var random = SplitMix(seed: 7)
    var accepted = 0
    for _ in 0..<200_000 {
      var wire = (0..<Int.random(in: 0...40, using: &random)).map { _ in
        UInt8.random(in: 0...255, using: &random)
      }
      if wire.count > 3, Bool.random(using: &random) {
        wire[2] = 0
        wire[3] = UInt8.random(in: 0...5, using: &random)
      }
      guard let header = try? DatagramHeader.decode(from: wire.span) else { continue }
      accepted += 1
      #expect((7...wire.count).contains(header.bytes))
      guard case .address(let address) = header.endpoint else { continue }
      let encoded = [UInt8](capacity: DatagramHeader.maximumAddressBytes) {
        DatagramHeader.encode(address, into: &$0)
      }
      #expect(encoded[3...] == wire[3..<header.bytes])
    }
    #expect(accepted > 10_000)
  }
}

extension [UInt8] {
  fileprivate init(capacity: Int, _ encode: (inout OutputSpan<UInt8>) -> Void) {
    self.init(unsafeUninitializedCapacity: capacity) { buffer, count in
      var span = OutputSpan(buffer: buffer, initializedCount: 0)
      encode(&span)
      count = span.finalize(for: buffer)
    }
  }
}
