internal import Synchronization

/// How many descriptors all workers together may hold for sessions and pipes, so that accepting
/// pauses before the process runs out of them.
final class DescriptorBudget: Sendable {
  private let limit: Int
  private let used = Atomic<Int>(0)

  init(limit: Int) { self.limit = limit }

  /// Takes `count` descriptors if that leaves the use at or below `share` of the whole.
  func take(_ count: Int, share: Share = .all) -> Bool {
    let ceiling = share == .all ? limit : limit / 2
    let before = used.wrappingAdd(count, ordering: .relaxed).oldValue
    if before + count <= ceiling { return true }
    used.wrappingSubtract(count, ordering: .relaxed)
    return false
  }

  var bound: Bound {
    Bound("descriptors", used: used.load(ordering: .relaxed), limit: limit)
  }

  func giveBack(_ count: Int) { used.wrappingSubtract(count, ordering: .relaxed) }

  /// With the embedded server every captured flow needs a second pair of descriptors for its other
  /// half: all but the server's own clients stop at half, so that these halves can never be starved.
  enum Share: Sendable { case all, half }
}
