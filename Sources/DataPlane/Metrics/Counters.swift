internal import Synchronization

/// What a worker counts.
package enum Counter: Int, CaseIterable, Sendable {
  case sessionsOpened, sessionsClosed, sessionsFailed
  /// Handshakes that failed with one upstream of a group, and were begun anew with another.
  case handshakesRetried
  /// Connections of the pool that carried flows, and those that were found dead by one.
  case pooledUsed, pooledDead
  /// The embedded server's halves of captured flows, which are not sessions of their own to anybody
  /// outside, and exposed sessions before somebody has come.
  case innerOpened, innerClosed
  case bytesUpstream, bytesDownstream
  case acceptPauses
  /// UDP client mappings. What the embedded server keeps for a captured client is that client's: neither
  /// it nor its datagrams are counted a second time, except those that are dropped there.
  case associationsOpened, associationsClosed
  case datagramsUpstream, datagramsDownstream
  case datagramBytesUpstream, datagramBytesDownstream
  /// DNS queries that went on by TCP; those whose answers were cut are among the answered.
  case queriesCarried, queriesAnswered, queriesTruncated, queriesFailed
  /// Rounds of the worker's loop.
  case turns
}

/// How much of what it has a bounded number of a worker uses, as of the end of its last turn.
enum Use: Int, CaseIterable, Sendable {
  case pipes, buffers, waitingBytes, listeners, pooledConnections
  /// Connections to resolvers, and resolvers of which something is known.
  case resolverConnections, knownResolvers
}

/// One worker's counters. The worker alone writes, anyone may read: relaxed loads and stores, which
/// are plain moves, and no cache line is shared between writers.
final class Counters: Sendable {
  private static let firstFailure = Counter.allCases.count
  private static let firstDrop = firstFailure + Failure.allCases.count
  private static let firstUse = firstDrop + DatagramDrop.allCases.count
  private static let count = firstUse + Use.allCases.count

  // SAFETY: initialised once below, never reallocated, and accessed only through atomics.
  private nonisolated(unsafe) let cells: UnsafeMutablePointer<Atomic<UInt64>>

  init() {
    cells = .allocate(capacity: Self.count)
    for index in 0..<Self.count { (cells + index).initialize(to: Atomic(0)) }
  }

  deinit {
    cells.deinitialize(count: Self.count)
    cells.deallocate()
  }

  func add(_ amount: Int = 1, to counter: Counter) {
    add(UInt64(truncatingIfNeeded: amount), at: counter.rawValue)
  }

  func add(_ failure: Failure) { add(1, at: Self.firstFailure + failure.rawValue) }

  func add(_ drop: DatagramDrop, count: Int = 1) {
    add(UInt64(truncatingIfNeeded: count), at: Self.firstDrop + drop.rawValue)
  }

  func set(_ use: Use, to value: Int) {
    cells[Self.firstUse + use.rawValue].store(
      UInt64(truncatingIfNeeded: value), ordering: .relaxed)
  }

  private func add(_ amount: UInt64, at index: Int) {
    let value = cells[index].load(ordering: .relaxed)
    cells[index].store(value &+ amount, ordering: .relaxed)
  }

  func read(into snapshot: inout Snapshot) {
    for counter in Counter.allCases {
      snapshot.counters[counter.rawValue] &+= cells[counter.rawValue].load(ordering: .relaxed)
    }
    for failure in Failure.allCases {
      snapshot.failures[failure.rawValue] &+=
        cells[Self.firstFailure + failure.rawValue].load(ordering: .relaxed)
    }
    for drop in DatagramDrop.allCases {
      snapshot.drops[drop.rawValue] &+=
        cells[Self.firstDrop + drop.rawValue].load(ordering: .relaxed)
    }
    for use in Use.allCases {
      snapshot.uses[use.rawValue] &+=
        cells[Self.firstUse + use.rawValue].load(ordering: .relaxed)
    }
  }
}

/// In which ways captured datagrams are carried.
package struct DatagramWays: Sendable {
  package let ability: Upstream.DatagramAbility
  package let dns: DNSTransport

  /// Whether queries go over TCP, as far as the upstream decides it.
  package var carriesQueriesOverStream: Bool {
    switch dns {
    case .stream: true
    case .automatic: ability == .refuses
    case .datagrams, .ordinary: false
    }
  }
}

/// The sum of all workers' counters at about one moment.
package struct Snapshot: Sendable {
  fileprivate(set) var counters = [UInt64](repeating: 0, count: Counter.allCases.count)
  fileprivate(set) var failures = [UInt64](repeating: 0, count: Failure.allCases.count)
  fileprivate(set) var drops = [UInt64](repeating: 0, count: DatagramDrop.allCases.count)
  fileprivate var uses = [UInt64](repeating: 0, count: Use.allCases.count)

  /// How captured datagrams are carried; nil if none are captured.
  package internal(set) var datagrams: DatagramWays?

  /// How long the phases of flows took, by the member of the group that they went through, and the phase.
  package internal(set) var phases: [[PhaseHistogram]] = []

  package init() {}

  package internal(set) subscript(_ counter: Counter) -> UInt64 {
    get { counters[counter.rawValue] }
    set { counters[counter.rawValue] = newValue }
  }
  package internal(set) subscript(_ failure: Failure) -> UInt64 {
    get { failures[failure.rawValue] }
    set { failures[failure.rawValue] = newValue }
  }
  package internal(set) subscript(_ drop: DatagramDrop) -> UInt64 {
    get { drops[drop.rawValue] }
    set { drops[drop.rawValue] = newValue }
  }
  subscript(_ use: Use) -> Int { Int(clamping: uses[use.rawValue]) }

  /// Associations that are open now.
  package var liveAssociations: UInt64 { difference(.associationsOpened, .associationsClosed) }

  /// Sessions that are open now.
  package var liveSessions: UInt64 { difference(.sessionsOpened, .sessionsClosed) }

  /// Whether no session is open, the embedded server's halves included, and no query waits.
  package var isIdle: Bool {
    liveSessions == 0 && difference(.innerOpened, .innerClosed) == 0
      && self[.queriesCarried] <= self[.queriesAnswered] + self[.queriesFailed]
  }

  /// The two are read one after the other: a session closed in between must not make it negative.
  private func difference(_ opened: Counter, _ closed: Counter) -> UInt64 {
    self[opened] > self[closed] ? self[opened] - self[closed] : 0
  }
}
