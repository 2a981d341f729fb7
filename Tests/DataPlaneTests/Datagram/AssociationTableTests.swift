import Addressing
import LinuxIO
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
    var table = AssociationTable()
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
        let oldest = table.oldest(of: client.address)
        #expect(oldest.map { table.slots[$0].pointee.client } == own.first)
        let isFull = own.count >= maximumPerClient
        if isFull || model.count >= maximum, let goes = isFull ? oldest : table.oldest {
          evictions += 1
          model.removeAll { $0 == table.slots[goes].pointee.client }
          table.remove(goes)
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
    var table = AssociationTable()
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

struct AssociationQuotaTests {
  @Test func boundsAllAndEach() {
    let quota = AssociationQuota(maximum: 3, maximumPerClient: 2)
    let (first, second) = (IPAddress.v4(.loopback), IPAddress.v6(.loopback))
    #expect(quota.take(for: first) == .granted)
    #expect(quota.take(for: first) == .granted)
    #expect(quota.take(for: first) == .fullForClient)
    #expect(quota.take(for: second) == .granted)
    #expect(quota.take(for: second) == .full)
    quota.giveBack(of: first)
    #expect(quota.take(for: second) == .granted)
    #expect(quota.take(for: second) == .fullForClient)
  }

  @Test func evictionsAreLimited() {
    var limiter = EvictionLimiter()
    let start = Instant(milliseconds: 5000)
    var taken = 0
    while limiter.take(now: start) { taken += 1 }
    #expect(taken == EvictionLimiter.maximum)
    let isTakenLater = limiter.take(now: start + EvictionLimiter.interval)
    #expect(isTakenLater)
  }
}
