/// Something that there is no more of than a number: its use at about one moment.
package struct Bound: Hashable, Sendable {
  package let used: Int
  package let limit: Int
}

extension DataPlane {
  /// Descriptors of sessions, associations and pipes; when they are used up accepting pauses.
  package var descriptors: Bound { budget.bound }

  /// Clients of datagrams at once, the captured ones and those of the embedded server; nil where none
  /// are captured.
  package var associations: Bound? { quota.bound.limit > 0 ? quota.bound : nil }
}
