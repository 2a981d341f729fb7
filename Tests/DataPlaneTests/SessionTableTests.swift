import Testing

@testable import DataPlane

struct SessionTableTests {
  @Test func slotsStayInPlaceAndAreReused() {
    var table = SessionTable()
    let indices = (0..<1000).map { _ in table.take() }
    #expect(Set(indices).count == 1000)
    let first = table[indices[0]]
    for index in indices { table.giveBack(index) }
    let count = table.count
    #expect(count == 0)
    let again = (0..<1000).map { _ in table.take() }
    #expect(Set(again) == Set(indices))
    let same = table[indices[0]]
    #expect(same == first)
  }

  @Test func staleTokenFindsNobody() {
    var table = SessionTable()
    let index = table.take()
    let token = Token(.upstream, index: index, generation: table[index].pointee.generation)
    let found = table.find(token)
    #expect(found != nil)
    table[index].pointee.generation &+= 1
    let stale = table.find(token)
    #expect(stale == nil)
  }

  @Test(arguments: [(0, 0), (1, 1), (0xFFF_FFFF, UInt32.max), (12_345, 0x8000_0000)])
  func tokensKeepTheirParts(index: Int, generation: UInt32) {
    for rawValue in 0..<16 as Range<UInt64> {
      guard let kind = Token.Kind(rawValue: rawValue) else { continue }
      let token = Token(rawValue: Token(kind, index: index, generation: generation).rawValue)
      #expect(token.kind == kind)
      #expect(token.index == index)
      #expect(token.generation == generation)
    }
  }

  /// What an idle flow costs in user memory, timers and table included.
  @Test func idleSessionIsSmall() {
    #expect(MemoryLayout<Session>.stride <= 160)
    #expect(MemoryLayout<HalfDuplex>.stride <= 32)
  }
}
