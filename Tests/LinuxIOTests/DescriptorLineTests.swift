import Testing

@testable import LinuxIO

struct DescriptorLineTests {
  @Test func messagesKeepTheirBoundsAndDescriptors() throws {
    var far: DescriptorLine?
    let near = try DescriptorLine.pair(&far)
    var otherFar: DescriptorLine?
    let other = try DescriptorLine.pair(&otherFar)
    try near.send([1, 2, 3], [other.rawValue])
    try near.send([4])
    guard let far else { return }
    guard var first = try far.receive(), let second = try far.receive() else {
      Issue.record("nothing came")
      return
    }
    let (bytes, next) = (first.bytes, second.bytes)
    #expect(bytes == [1, 2, 3])
    #expect(next == [4])
    let taken = first.take()
    #expect(taken.count == 1)
    #expect(second.descriptors.isEmpty)
    let copy = DescriptorLine(Descriptor(owning: taken[0]))
    other.close()
    try copy.send([5])
    guard let heard = try otherFar?.receive() else {
      Issue.record("the copy leads elsewhere")
      return
    }
    let word = heard.bytes
    #expect(word == [5])
  }

  @Test func endsWithTheOtherEnd() throws {
    var far: DescriptorLine?
    let near = try DescriptorLine.pair(&far)
    far = nil
    let hasEnded = try near.receive() == nil
    #expect(hasEnded)
  }
}
