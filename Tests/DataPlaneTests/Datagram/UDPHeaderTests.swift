import Addressing
import TestSupport
import Testing

@testable import DataPlane

struct UDPHeaderTests {
  /// RFC 1071 as it is written: 16-bit words in network byte order, carries added at the end.
  private func slowChecksum(_ bytes: [UInt8]) -> UInt16 {
    var sum: UInt32 = 0
    let padded = bytes.count % 2 == 0 ? bytes : bytes + [0]
    for index in stride(from: 0, to: padded.count, by: 2) {
      sum += UInt32(padded[index]) << 8 | UInt32(padded[index + 1])
      sum = sum & 0xFFFF + sum >> 16
    }
    return ~UInt16(sum)
  }

  private func header(
    _ payload: [UInt8], from source: SocketAddress, to destination: SocketAddress
  ) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: UDPHeader.bytes) { buffer, count in
      payload.withUnsafeBytes {
        UDPHeader.write(
          to: UnsafeMutableRawBufferPointer(buffer), from: source, to: destination, $0)
      }
      count = UDPHeader.bytes
    }
  }

  @Test func checksumIsTheSlowOne() throws {
    var random = SplitMix(seed: 3)
    let source = try #require(SocketAddress("8.8.4.4:53"))
    let destination = try #require(SocketAddress("192.0.2.200:40000"))
    for count in Array(0...70) + [1471, 1472, 9000, 65_507] {
      let payload = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
      let header = header(payload, from: source, to: destination)
      let length = [UInt8((count + 8) >> 8), UInt8((count + 8) & 255)]
      #expect(Array(header[..<6]) == [0, 53, 0x9C, 0x40] + length)
      let pseudo = source.address.bytes + destination.address.bytes + [0, 17] + length
      let expected = slowChecksum(pseudo + header[..<6] + [0, 0] + payload)
      let written = UInt16(header[6]) << 8 | UInt16(header[7])
      #expect(written == (expected == 0 ? 0xFFFF : expected))
    }
  }

  /// A sum that comes out as zero is written as its other representation.
  @Test func zeroIsNeverWritten() throws {
    let source = try #require(SocketAddress("8.8.4.4:53"))
    let destination = try #require(SocketAddress("192.0.2.200:40000"))
    let before = header([0, 0], from: source, to: destination)
    // The payload that makes the sum complete.
    let header = header(Array(before[6...7]), from: source, to: destination)
    #expect(header[6...7] == [0xFF, 0xFF])
  }

  @Test func kernelMakesTheChecksumOverIPv6() throws {
    let source = try #require(SocketAddress("[2001:db8::1]:1"))
    #expect(header([1], from: source, to: source) == [0, 1, 0, 1, 0, 9, 0, 0])
  }
}
