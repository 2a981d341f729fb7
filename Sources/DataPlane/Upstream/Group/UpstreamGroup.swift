package import LinuxIO
internal import SOCKS
internal import Synchronization

/// The upstreams that captured flows may go through, at least one, and which of them live. Workers read it
/// for each flow, without a lock; they and the monitor tell one another what they find out.
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

  package let members: [Upstream]
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
  private let order = Atomic<UInt64>(MemberRanking.given.packed)

  /// The only upstream.
  package init(_ upstream: Upstream) {
    members = [upstream]
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
  package init(
    _ members: [Upstream], _ balance: Balance, sets: [MemberSet]? = nil
  ) throws(Errno) {
    precondition((1...MemberSet.maximumMembers).contains(members.count))
    self.members = members
    self.sets = sets ?? [MemberSet(count: members.count)]
    standard = self.sets[0]
    carriers = Atomic(standard.bits)
    self.balance = balance
    attributes = members.reduce(into: []) { $0.formUnion($1.attributes) }
    mostHops = members.map(\.hopCount).max() ?? 1
    notices = members.count > 1 ? try Mailbox() : nil
  }

  /// Whether there is a choice.
  package var isPlural: Bool { notices != nil }

  // MARK: Health

  var all: MemberSet { MemberSet(count: members.count) }

  /// Those that are not known to be down; all of a single one.
  package var alive: MemberSet {
    all.subtracting(MemberSet(bits: down.load(ordering: .relaxed)))
  }

  /// Those that flows share with a member, itself included.
  package func companions(of member: Int) -> MemberSet {
    sets.first { $0.contains(member) } ?? MemberSet()
  }

  /// A member does not let flows through: new ones go elsewhere until it answers the monitor, or a flow.
  /// - Parameter isTold: whether a person has heard of it.
  package func takeOut(_ member: Int, after failure: Failure, isTold: Bool = false) {
    let bit = UInt16(1) << UInt16(member)
    guard let notices, down.bitwiseOr(bit, ordering: .relaxed).oldValue & bit == 0 else { return }
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
    guard let notices, doubted.bitwiseOr(bit, ordering: .relaxed).oldValue & bit == 0 else {
      return
    }
    notices.post(.doubted(member))
  }

  /// The monitor has heard of a doubt.
  func clearDoubt(_ member: Int) {
    doubted.bitwiseAnd(~(1 << UInt16(member)), ordering: .relaxed)
  }

  var ranking: MemberRanking {
    get { MemberRanking(packed: order.load(ordering: .relaxed)) }
    set { order.store(newValue.packed, ordering: .relaxed) }
  }

  // MARK: Abilities

  /// Whether any member takes IPv6 targets.
  package var carriesIPv6: Bool { members.contains(where: \.carriesIPv6) }

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

  /// Those of some that can be asked for a destination of this family; all of them, if none can.
  func able(_ some: MemberSet, toReachIPv4 isIPv4: Bool) -> MemberSet {
    isIPv4 ? some : those(of: some, where: \.carriesIPv6)
  }

  /// Those of some that may relay datagrams; all of them, if none do.
  func relaying(_ some: MemberSet) -> MemberSet {
    those(of: some) { $0.datagramAbility != .refuses }
  }

  private func those(of some: MemberSet, where isAble: (Upstream) -> Bool) -> MemberSet {
    var able = MemberSet()
    for (index, member) in members.enumerated() where some.contains(index) && isAble(member) {
      able.insert(index)
    }
    return able.isEmpty ? some : able
  }
}
