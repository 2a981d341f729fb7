/// Another group, and other rules, in the place of those that flows went by so far. What is open stays with
/// its member, which has the same slot in both.
package struct GroupChange: Sendable {
  /// Members that flows went through together, and those that they go through instead: the one and the other
  /// have the same name in the settings.
  package struct Move: Hashable, Sendable {
    package let former: MemberSet
    package let present: MemberSet

    package init(from former: MemberSet, to present: MemberSet) {
      self.former = former
      self.present = present
    }
  }

  package let group: UpstreamGroup
  /// Nil: all flows go through the standard members.
  package private(set) var policy: Policy?
  package let moves: [Move]
  /// Slots that another upstream has taken: what was counted and kept of the former one is no more.
  package let fresh: MemberSet

  package init(
    _ group: UpstreamGroup, _ policy: Policy?, moves: [Move], fresh: MemberSet
  ) {
    self.group = group
    self.policy = policy
    self.moves = moves
    self.fresh = fresh
  }

  /// The same where no rules are.
  package var withoutRules: GroupChange {
    var change = self
    change.policy = nil
    return change
  }

  /// Where those go that were to go through these; the same where nothing has their name any more.
  func destination(of members: MemberSet) -> MemberSet {
    moves.first { $0.former == members }?.present ?? members
  }
}
