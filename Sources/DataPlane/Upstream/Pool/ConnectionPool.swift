internal import LinuxIO
internal import SOCKS

/// A connection to an upstream that waits for a session.
///
///     connecting ──▶ admitting ──▶ ready ──▶ the session's, or closed
struct PooledConnection: ~Copyable, Slot {
  enum Phase: UInt8 { case connecting, admitting, ready }

  var generation: UInt32 = 0
  var phase = Phase.connecting
  /// Of the group of upstreams.
  var member: UInt8 = 0
  /// When it was begun, and when it became ready.
  var since = Instant(milliseconds: 0)
  /// Where it leads to; the upstream may have moved meanwhile.
  var place: Upstream.Place?
  var admission: Admission?
  var socket: Descriptor?
}

/// One worker's connections to upstreams that are past methods and authentication, so that a flow waits for
/// nothing but the reply to its request.
final class ConnectionPool {
  var slots = SlotTable<PooledConnection>()
  /// Indices of those that there are, in the order in which they were begun.
  var members: [Int32] = []
  /// By member of the group; nil for one with which none can be kept.
  var schedules: [PoolSchedule?]
  private let mostOfMember: Int
  /// When `Worker.tendPool` has something to do; nil: after the next flow.
  var nextTurn: Instant?
  /// Where the admission writes.
  let output = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: Admission.maximumOutputBytes)

  /// Nil where none are kept.
  init?(_ configuration: DataPlaneConfiguration, now: Instant) {
    guard configuration.pooledConnections > 0, !configuration.servesItself,
      !configuration.connectsDirectly, let group = configuration.group
    else { return nil }
    mostOfMember = Self.mostOfMember(configuration)
    schedules = []
    adopt(group, fresh: MemberSet())
  }

  /// The members are these from now on.
  /// - Parameter fresh: those that were others so far.
  func adopt(_ group: UpstreamGroup, fresh: MemberSet) {
    let former = schedules
    schedules = group.members.indices.map { member in
      guard group.listed.contains(member), group.members[member].canWait else { return nil }
      let isKnown = former.indices.contains(member) && !fresh.contains(member)
      return (isKnown ? former[member] : nil) ?? PoolSchedule(maximum: mostOfMember)
    }
  }

  /// A worker's share of those with each upstream.
  static func mostOfMember(_ configuration: DataPlaneConfiguration) -> Int {
    let workers = configuration.workers
    return (configuration.pooledConnections + workers - 1) / workers
  }

  deinit { output.deallocate() }

  /// How many there are with a member, those alone that are ready, or all.
  func count(of member: Int, ready: Bool) -> Int {
    members.count(where: { index in
      let connection = slots[Int(index)]
      return connection.pointee.member == UInt8(member)
        && (!ready || connection.pointee.phase == .ready)
    })
  }

  /// The youngest that is ready.
  func youngest(of member: Int) -> Int? {
    let index = members.last(where: { index in
      let connection = slots[Int(index)]
      return connection.pointee.member == UInt8(member) && connection.pointee.phase == .ready
    })
    return index.map(Int.init)
  }
}

extension Upstream {
  /// Whether a connection can be made ready before anything is known of its flow: not where there is
  /// but one message, nor where credentials tell of the flow.
  var canWait: Bool {
    guard case .socks5 = dialect else { return false }
    return dialect.attributes.isEmpty
  }
}
