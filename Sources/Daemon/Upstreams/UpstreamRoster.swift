internal import Addressing
internal import Configuration
internal import DataPlane
internal import Synchronization

/// Which upstream has which slot of the data plane's group: those of the settings, and those of earlier settings
/// that flows still go through. A slot keeps its upstream until nothing refers to it.
struct UpstreamRoster: Sendable {
  struct Entry: Sendable {
    let chain: UpstreamChain
    /// What of it is exempt from being captured.
    var addresses: [IPAddress]
  }

  /// As they are given.
  private(set) var selection: UpstreamSelection
  /// By the slot; nil in a free one.
  private(set) var slots: [Entry?]
  /// The slot of each member of the selection.
  private(set) var order: [Int]

  /// Each in the slot of its place in the settings.
  /// - Parameter addresses: of each member.
  init(_ selection: UpstreamSelection, addresses: [[IPAddress]]) {
    self.selection = selection
    slots = zip(selection.members, addresses).map { Entry(chain: $0, addresses: $1) }
    order = Array(selection.members.indices)
  }

  init(_ selection: UpstreamSelection) {
    self.init(selection, addresses: selection.members.map { _ in [] })
  }

  /// Those of no settings any more that flows may still go through.
  var retired: MemberSet {
    MemberSet(slots.indices.filter { slots[$0] != nil && !order.contains($0) })
  }

  /// What the rules have to exempt, those of retired ones among it.
  var exemptions: [IPAddress] { slots.flatMap { $0?.addresses ?? [] } }

  /// The upstream in a slot; nil in a free one, and where there is none.
  func chain(in slot: Int) -> UpstreamChain? { entry(in: slot)?.chain }

  /// The addresses of the upstream in a slot; none in a free one, and where there is none.
  func addresses(in slot: Int) -> [IPAddress] { entry(in: slot)?.addresses ?? [] }

  private func entry(in slot: Int) -> Entry? {
    slots.indices.contains(slot) ? slots[slot] : nil
  }

  /// Which member of the selection has a slot; nil for a retired one.
  func position(of slot: Int) -> Int? { order.firstIndex(of: slot) }

  /// The slots of some members of the selection.
  func members(_ positions: [Int]) -> MemberSet { MemberSet(positions.map { order[$0] }) }

  /// How those of the selection belong together, for a group.
  var sets: [MemberSet] { selection.sets.map(members) }

  mutating func setAddresses(_ addresses: [IPAddress], of slot: Int) {
    slots[slot]?.addresses = addresses
  }

  /// Frees slots of retired ones that nothing refers to any more.
  mutating func free(_ members: MemberSet) {
    for slot in slots.indices where members.contains(slot) && !order.contains(slot) {
      slots[slot] = nil
    }
  }

  // MARK: Other settings

  /// Takes other settings in. What is in these as well, or was retired, has the slot that it had; the others
  /// have free ones.
  /// - Parameter addresses: of those that have been looked up.
  /// - Returns: the slots that another upstream has than at any time before; nil if there are not enough, and
  ///   nothing has changed.
  mutating func adopt(
    _ other: UpstreamSelection, addresses: [UpstreamChain: [IPAddress]]
  ) -> MemberSet? {
    var (slots, fresh) = (slots, MemberSet())
    var order: [Int] = []
    for chain in other.members {
      if let slot = slots.firstIndex(where: { $0?.chain == chain }) {
        order.append(slot)
        if let addresses = addresses[chain] { slots[slot]?.addresses = addresses }
        continue
      }
      let free = slots.firstIndex { $0 == nil } ?? slots.count
      guard free < MemberSet.maximumMembers else { return nil }
      if free == slots.count { slots.append(nil) }
      slots[free] = Entry(chain: chain, addresses: addresses[chain] ?? [])
      order.append(free)
      fresh.insert(free)
    }
    (selection, self.slots, self.order) = (other, slots, order)
    return fresh
  }

  /// Which slots stand for the same in other settings, by the names that rules have for them: of flows that have
  /// not found their way, and of clients of datagrams.
  func moves(to other: UpstreamRoster) -> [GroupChange.Move] {
    var moves = [
      GroupChange.Move(
        from: members(selection.defaults), to: other.members(other.selection.defaults))
    ]
    for name in Set(selection.names.compactMap(\.self)) {
      let (former, present) = (
        members(selection.members(named: name)), other.members(other.selection.members(named: name))
      )
      if !present.isEmpty, former != moves[0].former {
        moves.append(GroupChange.Move(from: former, to: present))
      }
    }
    return moves
  }
}

/// The roster of a run, for whoever tells of upstreams, on any thread.
final class UpstreamRegister: Sendable {
  private let current: Mutex<UpstreamRoster>

  init(_ roster: UpstreamRoster) { current = Mutex(roster) }

  var roster: UpstreamRoster {
    get { current.withLock { $0 } }
    set { current.withLock { $0 = newValue } }
  }
}
