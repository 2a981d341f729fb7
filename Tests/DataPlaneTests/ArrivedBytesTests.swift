import TestSupport
import Testing

@testable import DataPlane

struct ArrivedBytesTests {
  /// Against an array: bytes come in and are dropped at the front, in any order.
  @Test(arguments: 0..<20 as Range<UInt64>)
  func random(seed: UInt64) {
    var random = SplitMix(seed: seed)
    var arrived = ArrivedBytes(capacity: 64)
    var model: [UInt8] = []
    for _ in 0..<500 {
      switch random.next(below: 4) {
      case 0:
        let count = Int(random.next(below: UInt64(model.count + 1)))
        arrived.drop(count)
        model.removeFirst(count)
      case 1: arrived.releaseIdle()
      default:
        let room = arrived.room
        #expect(room.count == 64 - model.count)
        let count = Int(random.next(below: UInt64(room.count + 1)))
        for index in 0..<count {
          room[index] = UInt8(truncatingIfNeeded: random.next())
          model.append(room[index])
        }
        arrived.didReceive(count)
      }
      #expect(arrived.bytes.elementsEqual(model))
      #expect(arrived.isEmpty == model.isEmpty)
    }
  }

  @Test func memoryIsThereOnlyForBytes() {
    var arrived = ArrivedBytes(capacity: 8)
    #expect(arrived.bytes.baseAddress == nil)
    #expect(arrived.append(UnsafeRawBufferPointer(start: nil, count: 0)) == 0)
    #expect(arrived.bytes.baseAddress == nil)
    let text: [UInt8] = [1, 2, 3]
    #expect(text.withUnsafeBytes { arrived.append($0) } == 3)
    arrived.releaseIdle()
    #expect(arrived.bytes.elementsEqual(text))
    arrived.drop(3)
    arrived.releaseIdle()
    #expect(arrived.bytes.baseAddress == nil)
  }

  @Test func takesNoMoreThanThereIsRoomFor() {
    var arrived = ArrivedBytes(capacity: 4)
    let text: [UInt8] = [1, 2, 3]
    #expect(text.withUnsafeBytes { arrived.append($0) } == 3)
    #expect(text.withUnsafeBytes { arrived.append($0) } == 1)
    #expect(text.withUnsafeBytes { arrived.append($0) } == 0)
    #expect(arrived.bytes.elementsEqual([1, 2, 3, 1]))
  }
}
