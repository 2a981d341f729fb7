/// Which members answer fastest, by the handshakes that were measured. The first place changes hands only
/// where another is clearly faster, so that flows do not move to and fro.
struct LatencyRanking {
  /// How much of a new measurement is believed.
  private static let weight = 0.25
  /// Another takes the first place if it needs less than this part of the leader's time …
  private static let advantage = 0.8
  /// … and so much less, in milliseconds.
  private static let margin = 2.0

  /// As they are listed.
  private let listed: [Int]
  /// Milliseconds, by member; nil where nothing was measured.
  private var smoothed: [Double?]
  private var leader: Int?

  /// - Parameter listed: those that are ranked, the preferred first.
  init(_ listed: [Int]) {
    self.listed = listed
    smoothed = Array(repeating: nil, count: MemberSet.maximumMembers)
  }

  /// Takes what a handshake with a member took.
  mutating func note(_ milliseconds: Double, of member: Int) {
    smoothed[member] =
      smoothed[member].map { $0 + Self.weight * (milliseconds - $0) } ?? milliseconds
    guard let best = ranked.first, let time = smoothed[best] else { return }
    guard let former = leader, let leading = smoothed[former] else {
      leader = best
      return
    }
    if time < Self.advantage * leading, time + Self.margin < leading { leader = best }
  }

  /// Forgets a member that has died: what it needs is measured anew.
  mutating func forget(_ member: Int) {
    smoothed[member] = nil
    if leader == member {
      leader = ranked.first { smoothed[$0] != nil }
    }
  }

  /// The leader, then the others as they were measured, and those that were not as they were given.
  var ranking: MemberRanking {
    var order = ranked
    if let leader, let place = order.firstIndex(of: leader) {
      order.remove(at: place)
      order.insert(leader, at: 0)
    }
    return MemberRanking(order)
  }

  /// The fastest first; those that were not measured as they are listed (`sort` is stable).
  private var ranked: [Int] {
    listed.sorted { smoothed[$0] ?? .infinity < smoothed[$1] ?? .infinity }
  }
}
