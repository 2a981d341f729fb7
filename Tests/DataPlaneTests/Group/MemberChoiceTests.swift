import TestSupport
import Testing

@testable import DataPlane

/// The rules over plain lists: slow and obviously right.
private struct ChoiceModel {
  let balance: Balance
  var turn: Int

  mutating func next(of members: [Int], key: UInt64, order: [Int]) -> Int? {
    guard !members.isEmpty else { return nil }
    switch balance {
    case .failover, .race, .fastest: return order.first { members.contains($0) }
    case .roundRobin:
      turn += 1
      return order.filter(members.contains)[(turn - 1) % members.count]
    case .hash, .hashDestination:
      return members.max {
        MemberChoice.mixed(key ^ MemberChoice.mixed(UInt64($0 + 1)))
          < MemberChoice.mixed(key ^ MemberChoice.mixed(UInt64($1 + 1)))
      }
    }
  }
}

struct MemberChoiceTests {
  static let balances: [Balance] = [
    .failover, .roundRobin, .hash, .hashDestination, .fastest, .race,
  ]

  /// Random members, keys and orders.
  @Test(arguments: balances)
  func agreesWithTheModel(balance: Balance) {
    var random = SplitMix(seed: 8)
    for turn in 0..<8 {
      var choice = MemberChoice(balance, turn: UInt8(turn))
      var model = ChoiceModel(balance: balance, turn: turn)
      for _ in 0..<2_000 {
        let members = (0..<MemberSet.maximumMembers).filter { _ in random.next(below: 2) == 0 }
        let order = (0..<MemberSet.maximumMembers).shuffled(using: &random)
        let key = random.next()
        let chosen = choice.next(of: MemberSet(members), key: key, MemberRanking(order))
        #expect(chosen == model.next(of: members, key: key, order: order))
      }
    }
  }

  @Test(arguments: [1, 2, 3, 7, 16])
  func turnsAreEven(count: Int) {
    var choice = MemberChoice(.roundRobin, turn: 5)
    var flows = Array(repeating: 0, count: count)
    for _ in 0..<(count * 100) {
      guard let member = choice.next(of: MemberSet(count: count), key: 0, .given) else {
        Issue.record("nobody was chosen")
        return
      }
      flows[member] += 1
    }
    #expect(flows == Array(repeating: 100, count: count))
  }

  /// The death of a member moves its keys alone, and evenly; its return moves just them back.
  @Test func hashMovesOnlyWhatIsOnTheDead() {
    var choice = MemberChoice(.hash)
    let all = MemberSet(count: 4)
    var without = all
    without.remove(2)
    var flows = [0, 0, 0, 0]
    var moved = [0, 0, 0, 0]
    for key in (0..<40_000 as Range<UInt64>) {
      let mixed = MemberChoice.mixed(key)
      guard let before = choice.next(of: all, key: mixed, .given),
        let after = choice.next(of: without, key: mixed, .given)
      else {
        Issue.record("nobody was chosen")
        return
      }
      flows[before] += 1
      if before == 2 { moved[after] += 1 } else { #expect(after == before) }
    }
    for count in flows { #expect((9_500...10_500).contains(count)) }
    #expect(moved[2] == 0)
    for member in [0, 1, 3] { #expect((3_000...3_700).contains(moved[member])) }
  }

  /// Whatever its slot.
  @Test func firstListedIsPreferred() {
    var choice = MemberChoice(.failover)
    let ranking = MemberRanking([7, 2, 15])
    #expect(choice.next(of: MemberSet([2, 7, 15]), key: 0, ranking) == 7)
    #expect(choice.next(of: MemberSet([2, 15]), key: 0, ranking) == 2)
    choice.balance = .roundRobin
    let turns = (0..<4).map { _ in choice.next(of: MemberSet([2, 7, 15]), key: 0, ranking) }
    #expect(turns == [7, 2, 15, 7])
  }

  @Test func setHasWhatWasPutIn() {
    var set = MemberSet()
    #expect(set.isEmpty && set.first() == nil)
    set.insert(15)
    set.insert(3)
    #expect(set.count == 2 && set.first() == 3)
    #expect(set.first(from: 4) == 15 && set.first(from: 16) == nil)
    set.remove(3)
    #expect(!set.contains(3) && set.contains(15))
    #expect(MemberSet(count: 16).count == 16 && MemberSet(count: 1).first(from: 1) == nil)
  }
}

struct LatencyRankingTests {
  private func order(_ ranking: MemberRanking, count: Int) -> [Int] {
    var rest = MemberSet(count: count)
    var order: [Int] = []
    while let member = ranking.first(of: rest) {
      order.append(member)
      rest.remove(member)
    }
    return order
  }

  @Test func fastestComesFirst() {
    var latencies = LatencyRanking(Array(0..<4))
    #expect(order(latencies.ranking, count: 4) == [0, 1, 2, 3])
    latencies.note(100, of: 0)
    latencies.note(300, of: 3)
    latencies.note(20, of: 2)
    #expect(order(latencies.ranking, count: 4) == [2, 0, 3, 1])
  }

  @Test func onlyTheListedAreRanked() {
    var latencies = LatencyRanking([9, 3])
    #expect(latencies.ranking.first(of: MemberSet([3, 9])) == 9)
    latencies.note(100, of: 9)
    latencies.note(20, of: 3)
    #expect(latencies.ranking.first(of: MemberSet([3, 9])) == 3)
    #expect(latencies.ranking.first(of: MemberSet([5])) == nil)
  }

  /// Neither a tenth nor a millisecond is worth going elsewhere for.
  @Test(arguments: [(100.0, 90.0, 0), (100, 70, 1), (2, 1, 0), (4, 1, 1)])
  func leaderGivesWayToTheClearlyFaster(leader: Double, other: Double, first: Int) {
    var latencies = LatencyRanking(Array(0..<2))
    latencies.note(leader, of: 0)
    latencies.note(other, of: 1)
    #expect(latencies.ranking.first(of: MemberSet(count: 2)) == first)
  }

  /// One slow answer is no reason to leave, several are.
  @Test func answersAreSmoothed() {
    var latencies = LatencyRanking(Array(0..<2))
    latencies.note(50, of: 0)
    latencies.note(55, of: 1)
    latencies.note(100, of: 0)
    #expect(latencies.ranking.first(of: MemberSet(count: 2)) == 0)
    for _ in 0..<3 { latencies.note(100, of: 0) }
    #expect(latencies.ranking.first(of: MemberSet(count: 2)) == 1)
  }

  @Test func deadOneIsMeasuredAnew() {
    var latencies = LatencyRanking(Array(0..<2))
    latencies.note(10, of: 0)
    latencies.note(50, of: 1)
    latencies.forget(0)
    #expect(order(latencies.ranking, count: 2) == [1, 0])
    latencies.note(10, of: 0)
    #expect(order(latencies.ranking, count: 2) == [0, 1])
  }
}
