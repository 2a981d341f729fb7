/// By which rule a group's flows are shared out among its members.
package enum Balance: Hashable, Sendable {
  /// All go through the first member that lives.
  case failover
  /// Each member gets as many as any other.
  case roundRobin
  /// A client stays with its member.
  case hash
  /// A destination does.
  case hashDestination
  /// All go through the one that answers fastest.
  case fastest
  /// Several are asked for each connection at once; what else there is goes through the first that lives.
  case race
}

/// The order in which members are preferred, best first.
struct MemberRanking: Hashable, Sendable {
  /// Four bits for each place, the first in the lowest.
  let packed: UInt64

  /// As they were given.
  static let given = MemberRanking(0..<MemberSet.maximumMembers)

  init(packed: UInt64) { self.packed = packed }

  /// - Parameter members: each at most once; those that are not among them are never the best.
  init(_ members: some Collection<Int>) {
    var packed: UInt64 = 0
    for (place, member) in members.enumerated() { packed |= UInt64(member) << UInt64(4 * place) }
    self.packed = packed
  }

  /// The best of these; nil if there are none.
  func first(of members: MemberSet) -> Int? { member(at: 0, of: members) }

  /// The one of these at a place, counted from 0; nil if there are no more than that.
  func member(at place: Int, of members: MemberSet) -> Int? {
    guard place < members.count else { return nil }
    var (rest, better) = (packed, place)
    for _ in 0..<MemberSet.maximumMembers {
      let member = Int(rest & 15)
      if members.contains(member) {
        if better == 0 { return member }
        better -= 1
      }
      rest >>= 4
    }
    return nil
  }
}

/// Chooses a member for one flow after the other. Each worker has its own, which shares nothing: what is
/// even for each is even for all.
struct MemberChoice {
  var balance: Balance
  /// How many flows had a turn.
  private var turn: UInt

  /// - Parameter turn: where the turns begin. At random, so that many that serve few flows each, as those of
  ///   `exec` do, do not all begin with the same member.
  init(_ balance: Balance, turn: UInt8 = 0) {
    self.balance = balance
    self.turn = UInt(turn)
  }

  /// The next flow's member; nil if there is none to choose from.
  /// - Parameters:
  ///   - key: what a hash is made of, equal for flows that belong together.
  ///   - ranking: of the group.
  mutating func next(of members: MemberSet, key: UInt64, _ ranking: MemberRanking) -> Int? {
    guard !members.isEmpty else { return nil }
    switch balance {
    case .failover, .race, .fastest: return ranking.first(of: members)
    case .roundRobin:
      defer { turn &+= 1 }
      return ranking.member(at: Int(turn % UInt(members.count)), of: members)
    case .hash, .hashDestination: return Self.highest(of: members, key)
    }
  }

  /// Rendezvous hashing (Thaler and Ravishankar, 1998): each member has a weight for each key, and the
  /// highest wins. One that goes takes only its own keys with it, and has the same when it returns.
  private static func highest(of members: MemberSet, _ key: UInt64) -> Int? {
    var (best, bestWeight) = (members.first(), UInt64(0))
    var next = best
    while let member = next {
      let weight = mixed(key ^ mixed(UInt64(member) &+ 1))
      if weight >= bestWeight { (best, bestWeight) = (member, weight) }
      next = members.first(from: member + 1)
    }
    return best
  }

  /// Every bit of the result depends on every bit of the value: the finalizer of SplitMix64 (Steele, Lea
  /// and Flood, 2014). The same in each run, so that a restart moves nobody.
  static func mixed(_ value: UInt64) -> UInt64 {
    var z = value &+ 0x9E37_79B9_7F4A_7C15
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
