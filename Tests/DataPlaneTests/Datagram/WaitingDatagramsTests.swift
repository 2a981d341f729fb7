import Addressing
import Testing

@testable import DataPlane

struct WaitingDatagramsTests {
  private let destination = SocketAddress(.v4(.loopback), 7)

  @Test func keepsOrderAndBounds() {
    var waiting = WaitingDatagrams()
    for index in 0..<WaitingDatagrams.maximumCount {
      let isTaken = [UInt8(index)].withUnsafeBytes { waiting.append($0, to: destination) }
      #expect(isTaken)
    }
    let isTaken = [UInt8(0)].withUnsafeBytes { waiting.append($0, to: destination) }
    #expect(!isTaken)
    var seen: [UInt8] = []
    waiting.withDatagrams { datagrams in
      for datagram in datagrams {
        seen += datagram.payload
        #expect(datagram.destination == destination)
      }
    }
    #expect(seen == (0..<UInt8(WaitingDatagrams.maximumCount)).map(\.self))
  }

  /// A burst of 32 fits whole, whatever an ordinary link carries.
  @Test(arguments: [(0, 64), (1472, 64), (8000, 32), (65_000, 4)])
  func holds(bytes: Int, count: Int) {
    var waiting = WaitingDatagrams()
    var taken = 0
    [UInt8](repeating: 0, count: bytes).withUnsafeBytes {
      while waiting.append($0, to: destination) { taken += 1 }
    }
    #expect(taken == count)
    #expect(waiting.count == count)
  }
}
