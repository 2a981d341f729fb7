import Addressing
import LinuxIO
import SOCKS
import Testing

@testable import DataPlane

/// Over real sockets of the loopback.
struct DatagramRunsTests {
  private struct Pair: ~Copyable {
    let sender: Descriptor
    let receiver: Descriptor
    var reader = DatagramReader()

    init() throws {
      let receiver = try DatagramSocket.bind(
        to: SocketAddress(.v4(.loopback), 0), .init(receiveBytes: 4 << 20))
      let address = receiver.localAddress
      sender = try DatagramSocket.connect(to: try #require(address), .init())
      self.receiver = receiver
    }

    /// Everything that has arrived, in order, joined datagrams taken apart; and how many pieces the
    /// kernel had them in.
    mutating func received() -> (datagrams: [[UInt8]], pieces: Int) {
      var datagrams: [[UInt8]] = []
      var pieces = 0
      while case .slots(let count, _) = reader.receive(
        from: receiver.rawValue, into: 0..<DatagramReader.slots)
      {
        pieces += count
        for slot in 0..<count {
          reader.received(at: slot).forEachDatagram { datagrams.append(Array($0)) }
        }
      }
      return (datagrams, pieces)
    }
  }

  private let first = SocketAddress(.v4(IPv4Address(bits: 0xC000_0201)), 7)
  private let second = SocketAddress(.v6(IPv6Address(high: 0x2001_0DB8 << 32, low: 1)), 8)

  private func wire(_ payload: [UInt8], to destination: SocketAddress) -> [UInt8] {
    var header = [UInt8](repeating: 0, count: 3)
    header += destination.address.isIPv4 ? [1] : [4]
    header += destination.address.bytes
    return header + [UInt8(destination.port >> 8), UInt8(destination.port & 255)] + payload
  }

  /// Sizes with the destination of each, and in how many pieces they may arrive.
  @Test(arguments: [
    ([100], [0], 1), ([0], [0], 1), ([100, 100, 100], [0, 0, 0], 1),
    ([100, 100, 50], [0, 0, 0], 1), ([100, 50, 100], [0, 0, 0], 2),
    ([50, 100, 100], [0, 0, 0], 2), ([0, 0, 0], [0, 0, 0], 1), ([9, 0, 0], [0, 0, 0], 2),
    ([100, 100, 100, 100], [0, 1, 0, 1], 4), ([100, 88, 88], [0, 1, 1], 2),
    ([60_000, 60_000, 1], [0, 0, 0], 3), ([30_000, 30_000, 1], [0, 0, 0], 2),
  ])
  func arriveUnchanged(sizes: [Int], destinations: [Int], pieces: Int) throws {
    var pair = try Pair()
    var runs = DatagramRuns()
    let payloads = sizes.enumerated().map { index, size in
      UnsafeMutableRawBufferPointer.payload(size, filledWith: UInt8(index + 1))
    }
    defer { for payload in payloads { payload.deallocate() } }
    var expected: [[UInt8]] = []
    for (payload, which) in zip(payloads, destinations) {
      let destination = which == 0 ? first : second
      runs.append(UnsafeRawBufferPointer(payload), to: destination, segmentLimit: 65_507)
      expected.append(wire(Array(payload), to: destination))
    }
    let outcome = runs.flush(by: pair.sender.rawValue)
    #expect(outcome.unsent == 0)
    #expect(!outcome.isRefused)
    let isEmpty = runs.isEmpty
    #expect(isEmpty)
    let received = pair.received()
    #expect(received.datagrams == expected)
    #expect(received.pieces == pieces)
  }

  /// More of one size than one message can have.
  @Test func longRunsAreSplit() throws {
    var pair = try Pair()
    var runs = DatagramRuns()
    let payload = UnsafeMutableRawBufferPointer.payload(64, filledWith: 5)
    defer { payload.deallocate() }
    for _ in 0..<200 {
      let isFull = runs.isFull
      #expect(!isFull)
      runs.append(UnsafeRawBufferPointer(payload), to: first, segmentLimit: 65_507)
    }
    let outcome = runs.flush(by: pair.sender.rawValue)
    #expect(outcome.unsent == 0)
    let received = pair.received()
    #expect(received.datagrams.count == 200)
    #expect(Set(received.datagrams) == [wire(Array(payload), to: first)])
    #expect(received.pieces == 4)
  }

  /// Datagrams that would need fragments are not cut by the kernel, but sent one by one.
  @Test func beyondTheLimitEachGoesAlone() throws {
    var pair = try Pair()
    var runs = DatagramRuns()
    let payload = UnsafeMutableRawBufferPointer.payload(2000, filledWith: 5)
    defer { payload.deallocate() }
    for _ in 0..<3 {
      runs.append(UnsafeRawBufferPointer(payload), to: first, segmentLimit: 1472)
    }
    let outcome = runs.flush(by: pair.sender.rawValue)
    #expect(outcome.unsent == 0)
    let received = pair.received()
    #expect(received.datagrams.count == 3)
    #expect(received.pieces == 3)
  }

  /// A limit that is higher than what the path carries costs a second attempt and no datagram.
  @Test func tooHighALimitIsSurvived() throws {
    var pair = try Pair()
    var runs = DatagramRuns()
    // 40,000 bytes fit the loopback (65,536) once, and the sum is not more than a message can have.
    let payload = UnsafeMutableRawBufferPointer.payload(32_000, filledWith: 5)
    defer { payload.deallocate() }
    for _ in 0..<2 {
      runs.append(UnsafeRawBufferPointer(payload), to: first, segmentLimit: .max)
    }
    let outcome = runs.flush(by: pair.sender.rawValue)
    #expect(outcome.unsent == 0)
    let received = pair.received()
    #expect(received.datagrams.count == 2)
  }

  @Test func nobodyAtTheRelayIsNoticed() throws {
    let address = try Pair().receiver.localAddress
    let sender = try DatagramSocket.connect(to: try #require(address), .init())
    var runs = DatagramRuns()
    let payload = UnsafeMutableRawBufferPointer.payload(1, filledWith: 5)
    defer { payload.deallocate() }
    runs.append(UnsafeRawBufferPointer(payload), to: first, segmentLimit: 1472)
    let before = runs.flush(by: sender.rawValue)
    #expect(!before.isRefused)
    runs.append(UnsafeRawBufferPointer(payload), to: first, segmentLimit: 1472)
    let after = runs.flush(by: sender.rawValue)
    #expect(after.isRefused)
  }
}

extension UnsafeMutableRawBufferPointer {
  fileprivate static func payload(_ count: Int, filledWith byte: UInt8) -> Self {
    let payload = Self.allocate(byteCount: count, alignment: 1)
    payload.initializeMemory(as: UInt8.self, repeating: byte)
    return payload
  }
}
