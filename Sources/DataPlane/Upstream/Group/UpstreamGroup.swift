package import LinuxIO
internal import SOCKS
internal import Synchronization

/// The upstreams that captured flows may go through, at least one, and which of them live. Workers read it
/// for each flow, without a lock; they and the monitor tell one another what they find out.
///
/// Each has a slot, whose number is the upstream's everywhere. Where another group takes the place of this
/// one (`GroupChange`), what is in both keeps its slot, and so does what flows go on through that is in none
/// any more.
package final class UpstreamGroup: Sendable {
  /// What the monitor is told.
  enum Notice: Sendable {
    /// A flow, or the start, has found a member down; `isTold` where a person has heard of it.
    case takenOut(Int, Failure, isTold: Bool)
    /// A flow failed in a way that may be the member's fault.
    case doubted(Int)
    /// A flow has got through a member that was out.
    case broughtBack(Int)
    /// What came of asking, and how long it took.
    case answered(Int, Failure?, milliseconds: UInt64)
    case stop
  }

  /// By slot. Those that are not listed only serve the flows that they have.
  package let members: [Upstream]
  /// The slots of those that new flows go through, the preferred first; at least one.
  package let order: [Int]
  /// The same in no order.
  package let listed: MemberSet
  package let balance: Balance
  /// The members that share flows out among each other; each is in one of them.
  private let sets: [MemberSet]
  /// Those that flows go through which no rule sends elsewhere.
  package let standard: MemberSet
  /// What of a flow the credentials of any member tell.
  let attributes: Set<FlowAttribute>
  /// Of the longest chain among them, 1 if there is none.
  let mostHops: Int
  /// Nil where there is but one.
  let notices: Mailbox<Notice>?

  private let down = Atomic<UInt16>(0)
  private let carriers: Atomic<UInt16>
  /// Those of whose doubt the monitor has not heard.
  private let doubted = Atomic<UInt16>(0)
  private let preferences = Atomic<UInt64>(MemberRanking.given.packed)

  /// The only upstream.
  package init(_ upstream: Upstream) {
    members = [upstream]
    order = [0]
    listed = MemberSet(count: 1)
    sets = [MemberSet(count: 1)]
    standard = MemberSet(count: 1)
    carriers = Atomic(standard.bits)
    balance = .failover
    attributes = upstream.attributes
    mostHops = upstream.hopCount
    notices = nil
  }

  /// - Parameters:
  ///   - members: 1 to `MemberSet.maximumMembers`.
  ///   - sets: how they belong together, those first that flows go through without rules; each member is in
  ///     one. Nil: all together.
  package convenience init(
    _ members: [Upstream], _ balance: Balance, sets: [MemberSet]? = nil
  ) throws(Errno) {
    try self.init(
      slots: members, order: Array(members.indices), balance,
      sets: sets ?? [MemberSet(count: members.count)])
  }

  /// - Parameters:
  ///   - members: by slot, 1 to `MemberSet.maximumMembers`.
  ///   - order: the slots of those that new flows go through, the preferred first; at least one.
  ///   - sets: how those belong together, as above.
  package init(
    slots members: [Upstream], order: [Int], _ balance: Balance, sets: [MemberSet]
  ) throws(Errno) {
    precondition((1...MemberSet.maximumMembers).contains(members.count) && !order.isEmpty)
    self.members = members
    self.order = order
    listed = MemberSet(order)
    self.sets = sets
    standard = sets[0]
    carriers = Atomic(standard.bits)
    self.balance = balance
    attributes = order.reduce(into: []) { $0.formUnion(members[$1].attributes) }
    mostHops = order.map { members[$0].hopCount }.max() ?? 1
    notices = order.count > 1 ? try Mailbox() : nil
    preferences.store(MemberRanking(order).packed, ordering: .relaxed)
  }

  /// Whether there is a choice.
  package var isPlural: Bool { notices != nil }

  /// The preferred one of all, which is the only one where there is no choice.
  var first: Int { order[0] }

  // MARK: Health

  /// Those of the listed ones that are not known to be down; all of a single one.
  package var alive: MemberSet { listed.subtracting(knownDown) }

  /// Those that are known to be down.
  private var knownDown: MemberSet { MemberSet(bits: down.load(ordering: .relaxed)) }

  /// Whether a member is known to be down. Of one that is not listed nothing is.
  func isDown(_ member: Int) -> Bool { knownDown.contains(member) }

  /// Those that flows share with a member, itself included.
  package func companions(of member: Int) -> MemberSet {
    sets.first { $0.contains(member) } ?? MemberSet()
  }

  /// A member does not let flows through: new ones go elsewhere until it answers the monitor, or a flow.
  /// - Parameter isTold: whether a person has heard of it.
  package func takeOut(_ member: Int, after failure: Failure, isTold: Bool = false) {
    let bit = UInt16(1) << UInt16(member)
    guard let notices, listed.contains(member),
      down.bitwiseOr(bit, ordering: .relaxed).oldValue & bit == 0
    else { return }
    notices.post(.takenOut(member, failure, isTold: isTold))
  }

  /// A member lets flows through.
  package func bringBack(_ member: Int) {
    let bit = UInt16(1) << UInt16(member)
    guard let notices, down.load(ordering: .relaxed) & bit != 0,
      down.bitwiseAnd(~bit, ordering: .relaxed).oldValue & bit != 0
    else { return }
    notices.post(.broughtBack(member))
  }

  /// Has a member asked whether it lives; however many flows want to know, once until the monitor hears.
  func doubt(_ member: Int) {
    let bit = UInt16(1) << UInt16(member)
    guard let notices, listed.contains(member),
      doubted.bitwiseOr(bit, ordering: .relaxed).oldValue & bit == 0
    else { return }
    notices.post(.doubted(member))
  }

  /// The monitor has heard of a doubt.
  func clearDoubt(_ member: Int) {
    doubted.bitwiseAnd(~(1 << UInt16(member)), ordering: .relaxed)
  }

  /// As they are listed, or as the monitor has found them.
  var ranking: MemberRanking {
    get { MemberRanking(packed: preferences.load(ordering: .relaxed)) }
    set { preferences.store(newValue.packed, ordering: .relaxed) }
  }

  // MARK: Abilities

  /// Whether any member takes IPv6 targets.
  package var carriesIPv6: Bool { order.contains { members[$0].carriesIPv6 } }

  /// Those that datagrams may go through, which the rules say: unless told otherwise, the standard ones.
  package var datagramMembers: MemberSet {
    get { MemberSet(bits: carriers.load(ordering: .relaxed)) }
    set { carriers.store(newValue.bits, ordering: .relaxed) }
  }

  /// Of all together that datagrams go through: they relay them if one does.
  package var datagramAbility: Upstream.DatagramAbility { datagramAbility(of: datagramMembers) }

  /// Of some together.
  package func datagramAbility(of some: MemberSet) -> Upstream.DatagramAbility {
    var ability = Upstream.DatagramAbility.refuses
    for (index, member) in members.enumerated() where some.contains(index) {
      switch member.datagramAbility {
      case .relays: return .relays
      case .unknown: ability = .unknown
      case .refuses: break
      }
    }
    return ability
  }

  /// Those of some that are listed and can be asked for a destination of this family; all that are listed,
  /// if none can.
  func able(_ some: MemberSet, toReachIPv4 isIPv4: Bool) -> MemberSet {
    isIPv4 ? some.intersection(listed) : those(of: some, where: \.carriesIPv6)
  }

  /// Those of some that are listed and may relay datagrams; all that are listed, if none do.
  func relaying(_ some: MemberSet) -> MemberSet {
    those(of: some) { $0.datagramAbility != .refuses }
  }

  private func those(of some: MemberSet, where isAble: (Upstream) -> Bool) -> MemberSet {
    let some = some.intersection(listed)
    var able = MemberSet()
    for (index, member) in members.enumerated() where some.contains(index) && isAble(member) {
      able.insert(index)
    }
    return able.isEmpty ? some : able
  }
}
