internal import Addressing
internal import LinuxIO

/// The resolvers that queries were sent to of late, and one deadline for each.
struct ResolverTable: ~Copyable {
  /// Past that the one that was asked the longest time ago gives way.
  static let maximumResolvers = 64

  private var slots: [ResolverConnection?] = []
  private var indices: [SocketAddress: Int] = [:]
  private var lastGeneration: UInt32 = 0
  private var uses: UInt64 = 0
  var timers: TimerWheel
  var quota = ClientQuota()

  init(now: Instant) { timers = TimerWheel(now: now) }

  var isEmpty: Bool { indices.isEmpty }

  var count: Int { indices.count }

  var isFull: Bool { indices.count == Self.maximumResolvers }

  /// Indices of all resolvers.
  var all: [Int] { Array(indices.values) }

  /// Where the resolver is that was asked the longest time ago.
  var leastRecentlyUsed: Int? {
    indices.values.min { self[$0].lastUse < self[$1].lastUse }
  }

  func index(of resolver: SocketAddress) -> Int? { indices[resolver] }

  /// The resolver at `index`, which must be one.
  subscript(_ index: Int) -> ResolverConnection {
    guard let connection = slots[index] else { preconditionFailure("no resolver at \(index)") }
    return connection
  }

  /// The resolver whose present socket `token` was made for, nil if that is gone.
  func find(_ token: Token) -> ResolverConnection? {
    guard let connection = slots[token.index], connection.generation == token.generation else {
      return nil
    }
    return connection
  }

  /// The resolver at `index` is asked at `now`.
  mutating func noteUse(_ index: Int, now: Instant) {
    uses += 1
    self[index].lastUse = uses
    self[index].lastQuery = now
  }

  mutating func insert(_ connection: ResolverConnection) -> Int {
    let index = slots.firstIndex { $0 == nil } ?? slots.count
    if index == slots.count { slots.append(nil) }
    slots[index] = connection
    indices[connection.resolver] = index
    return index
  }

  mutating func remove(_ index: Int) {
    timers.cancel(index)
    indices[self[index].resolver] = nil
    slots[index] = nil
  }

  /// For another socket.
  mutating func nextGeneration() -> UInt32 {
    lastGeneration &+= 1
    return lastGeneration
  }
}
