import Addressing
import LinuxIO
import TestSupport
import Testing

@testable import DataPlane

struct AssociationTableTests {
  /// What an association is found by.
  private struct Way: Equatable {
    let client: SocketAddress
    let members: MemberSet
  }

  private func way(_ index: Int, in table: borrowing AssociationTable) -> Way {
    let association = table.slots[index]
    return Way(client: association.pointee.client, members: association.pointee.members)
  }

  private func client(_ host: Int, _ port: Int) -> SocketAddress {
    SocketAddress(.v4(IPv4Address(bits: 0xC000_0200 + UInt32(host))), UInt16(port))
  }

  /// Against lists that are searched: who is there, who is the oldest, and who has to go.
  @Test func isWhatASlowOneIs() {
    var random = SplitMix(seed: 11)
    let (maximum, maximumPerClient) = (24, 5)
    var table = AssociationTable()
    // The oldest first.
    var model: [Way] = []
    var evictions = 0
    for _ in 0..<20_000 {
      let client = client(
        Int.random(in: 0..<8, using: &random), Int.random(in: 1...6, using: &random))
      let members = MemberSet([Int.random(in: 0..<2, using: &random)])
      let wanted = Way(client: client, members: members)
      let found = table.find(client, members)
      #expect((found != nil) == model.contains(wanted))
      if let found, Int.random(in: 0..<4, using: &random) == 0 {
        table.remove(found)
        model.removeAll { $0 == wanted }
      } else if let found {
        #expect(way(found, in: table) == wanted)
        table.touch(found)
        model.removeAll { $0 == wanted }
        model.append(wanted)
      } else {
        let own = model.filter { $0.client.address == client.address }
        let oldest = table.oldest(of: client.address)
        #expect(oldest.map { way($0, in: table) } == own.first)
        let isFull = own.count >= maximumPerClient
        if isFull || model.count >= maximum, let goes = isFull ? oldest : table.oldest {
          evictions += 1
          let gone = way(goes, in: table)
          model.removeAll { $0 == gone }
          table.remove(goes)
        }
        let index = table.add(client, members)
        #expect(way(index, in: table) == wanted)
        model.append(wanted)
      }
      #expect(table.count == model.count)
      #expect(table.oldest.map { way($0, in: table) } == model.first)
    }
    #expect(evictions > 100)
  }

  /// Two that change places, one that goes where nobody was, and one that stays.
  @Test func isFoundByTheUpstreamsInTheirPlace() {
    var table = AssociationTable()
    let sets = [MemberSet([0]), MemberSet([1]), MemberSet([2]), MemberSet([4])]
    let indices = sets.map { table.add(client(1, 1), $0) }
    let places = [sets[0]: sets[1], sets[1]: sets[0], sets[2]: MemberSet([3])]
    table.move { places[$0] ?? $0 }
    let found = [sets[1], sets[0], MemberSet([3]), sets[3]].map { table.find(client(1, 1), $0) }
    #expect(found == indices)
    #expect(table.find(client(1, 1), sets[2]) == nil)
  }

  /// Only one of them is found, and neither's end takes the other away.
  @Test func oneOfTwoInTheSamePlaceIsFound() {
    for goesFirst in [0, 1] {
      var table = AssociationTable()
      let indices = [0, 1].map { table.add(client(1, 1), MemberSet([$0])) }
      let place = MemberSet([2])
      table.move { _ in place }
      #expect(table.find(client(1, 1), place) == indices[0])
      table.remove(indices[goesFirst])
      #expect(table.find(client(1, 1), place) == (goesFirst == 0 ? nil : indices[0]))
      #expect(table.count == 1)
      table.remove(indices[1 - goesFirst])
      #expect(table.find(client(1, 1), place) == nil && table.oldest == nil)
    }
  }

  @Test func tokenOfOneThatEndedFindsNobody() {
    var table = AssociationTable()
    let index = table.add(client(1, 1), MemberSet())
    let token = Token(
      .associationRelay, index: index, generation: table.slots[index].pointee.generation)
    let found = table.slots.find(token) != nil
    #expect(found)
    table.remove(index)
    #expect(table.add(client(1, 2), MemberSet()) == index)
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
