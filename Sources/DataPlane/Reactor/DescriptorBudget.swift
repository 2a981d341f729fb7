internal import Synchronization

/// How many descriptors all workers together may hold for sessions and pipes, so that accepting
/// pauses before the process runs out of them.
final class DescriptorBudget: Sendable {
  private let limit: Int
  private let used = Atomic<Int>(0)

  init(limit: Int) { self.limit = limit }

  /// Takes `count` descriptors if that leaves the use at or below `share` of the whole.
  func take(_ count: Int, share: Share = .all) -> Bool {
    let ceiling = limit / share.rawValue
    let before = used.wrappingAdd(count, ordering: .relaxed).oldValue
    if before + count <= ceiling { return true }
    used.wrappingSubtract(count, ordering: .relaxed)
    return false
  }

  func giveBack(_ count: Int) { used.wrappingSubtract(count, ordering: .relaxed) }

  /// With the embedded server every captured flow needs descriptors for its other half: as many as its
  /// own for a connection, twice as many for an association. Capturing stops where these could be
  /// starved by new captures.
  enum Share: Int, Sendable {
    case all = 1
    case half = 2
    case third = 3
  }
}
