internal import Synchronization

/// How long the phases of one worker's flows took, by the upstream that they went through. As with
/// `Counters`, the worker alone writes, and anyone may read.
final class PhaseHistograms: Sendable {
  private static let cellsPerPhase = PhaseHistogram.bucketCount + 1
  private static let cellsPerMember = FlowPhase.allCases.count * cellsPerPhase

  private let members: Int
  // SAFETY: initialised once below, never reallocated, and accessed only through atomics.
  private nonisolated(unsafe) let cells: UnsafeMutablePointer<Atomic<UInt64>>

  /// - Parameter members: of the group of upstreams at most.
  init(members: Int) {
    self.members = members
    cells = .allocate(capacity: members * Self.cellsPerMember)
    for index in 0..<members * Self.cellsPerMember { (cells + index).initialize(to: Atomic(0)) }
  }

  deinit {
    cells.deinitialize(count: members * Self.cellsPerMember)
    cells.deallocate()
  }

  func add(_ microseconds: UInt64, to phase: FlowPhase, of member: Int) {
    precondition(member < members)
    let first = Self.first(of: phase, member)
    add(1, at: first + PhaseHistogram.bucket(of: microseconds))
    add(microseconds, at: first + PhaseHistogram.bucketCount)
  }

  /// Begins anew for another member in the same place.
  func clear(_ member: Int) {
    let first = member * Self.cellsPerMember
    for index in first..<first + Self.cellsPerMember { cells[index].store(0, ordering: .relaxed) }
  }

  private static func first(of phase: FlowPhase, _ member: Int) -> Int {
    member * cellsPerMember + phase.rawValue * cellsPerPhase
  }

  private func add(_ amount: UInt64, at index: Int) {
    let value = cells[index].load(ordering: .relaxed)
    cells[index].store(value &+ amount, ordering: .relaxed)
  }

  /// - Parameter count: of the members that there are now; nil: all.
  func read(into snapshot: inout Snapshot, members count: Int? = nil) {
    for member in 0..<(count ?? members) {
      if snapshot.phases.count == member {
        snapshot.phases.append(.init(repeating: .init(), count: FlowPhase.allCases.count))
      }
      for phase in FlowPhase.allCases {
        let first = Self.first(of: phase, member)
        var sum = PhaseHistogram()
        for bucket in 0..<PhaseHistogram.bucketCount {
          sum.counts[bucket] = cells[first + bucket].load(ordering: .relaxed)
        }
        sum.microseconds =
          cells[first + PhaseHistogram.bucketCount].load(ordering: .relaxed)
        snapshot.phases[member][phase.rawValue].add(sum)
      }
    }
  }
}

/// How long a phase took how often.
package struct PhaseHistogram: Hashable, Sendable {
  /// The longest of each bucket but the last, which has no end, in microseconds: from a neighbour in the
  /// same rack to the time-outs.
  private static let edges: InlineArray<16, UInt32> = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
  ]
  static let bucketCount = edges.count + 1

  /// Of each bucket alone.
  package fileprivate(set) var counts = [UInt64](repeating: 0, count: bucketCount)
  /// Of all together.
  package fileprivate(set) var microseconds: UInt64 = 0

  package init() {}

  /// The longest of each bucket but the last, in microseconds.
  package static var bounds: [UInt32] { edges.indices.map { edges[$0] } }

  /// The index of the bucket that a time belongs to.
  static func bucket(of microseconds: UInt64) -> Int {
    for index in edges.indices where microseconds <= UInt64(edges[index]) { return index }
    return edges.count
  }

  /// Counts one more.
  package mutating func add(_ microseconds: UInt64) {
    counts[Self.bucket(of: microseconds)] += 1
    self.microseconds &+= microseconds
  }

  fileprivate mutating func add(_ other: PhaseHistogram) {
    for index in counts.indices { counts[index] &+= other.counts[index] }
    microseconds &+= other.microseconds
  }
}
