import Addressing
import TestSupport
import Testing

@testable import DataPlane

struct AssociationTableTests {
  private func client(_ host: Int, _ port: Int) -> SocketAddress {
    SocketAddress(.v4(IPv4Address(bits: 0xC000_0200 + UInt32(host))), UInt16(port))
  }

  /// Against lists that are searched: who is there, who is the oldest, and who has to go.
  @Test func isWhatASlowOneIs() {
    var random = SplitMix(seed: 11)
    let (maximum, maximumPerClient) = (24, 5)
    var table = AssociationTable(maximumPerClient: maximumPerClient)
    // The oldest first.
    var model: [SocketAddress] = []
    var evictions = 0
    for _ in 0..<20_000 {
      let client = client(
        Int.random(in: 0..<8, using: &random), Int.random(in: 1...12, using: &random))
      let found = table.find(client)
      #expect((found != nil) == model.contains(client))
      if let found, Int.random(in: 0..<4, using: &random) == 0 {
        table.remove(found)
        model.removeAll { $0 == client }
      } else if let found {
        #expect(table.slots[found].pointee.client == client)
        table.touch(found)
        model.removeAll { $0 == client }
        model.append(client)
      } else {
        let own = model.filter { $0.address == client.address }
        let isOver = model.count >= maximum
        let goes = own.count >= maximumPerClient ? own.first : isOver ? model.first : nil
        let obstacle = table.obstacle(to: client.address) ?? (isOver ? table.oldest : nil)
        #expect(obstacle.map { table.slots[$0].pointee.client } == goes)
        if let obstacle {
          evictions += 1
          table.remove(obstacle)
          model.removeAll { $0 == goes }
        }
        let index = table.add(client)
        #expect(table.slots[index].pointee.client == client)
        model.append(client)
      }
      #expect(table.count == model.count)
      #expect(table.oldest.map { table.slots[$0].pointee.client } == model.first)
    }
    #expect(evictions > 100)
  }

  @Test func tokenOfOneThatEndedFindsNobody() {
    var table = AssociationTable(maximumPerClient: 2)
    let index = table.add(client(1, 1))
    let token = Token(
      .associationRelay, index: index, generation: table.slots[index].pointee.generation)
    let found = table.slots.find(token) != nil
    #expect(found)
    table.remove(index)
    #expect(table.add(client(1, 2)) == index)
    let stale = table.slots.find(token) == nil
    #expect(stale)
  }
}
