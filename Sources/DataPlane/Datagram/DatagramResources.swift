internal import Addressing
internal import LinuxIO

/// What a worker needs for the datagrams that it captures: memory for batches, which is not touched
/// before it is used, and its associations.
struct DatagramResources: ~Copyable {
  /// Bytes that may wait for associations of one worker, all together.
  static let maximumWaitingBytes = 16 << 20

  /// What a slot of the batch that is being forwarded brought, of one association.
  struct Arrival {
    let bytes: UnsafeRawBufferPointer
    let segment: Int
    let destination: SocketAddress
    /// The next one of the same association, -1 for the last.
    var next: Int32 = -1
  }

  var reader = DatagramReader()
  var stage = DatagramStage()
  var sender = DatagramSender()
  /// Of the batch that is being forwarded.
  var arrivals: [Arrival] = []
  /// Associations that have arrivals.
  var touched: [Int] = []
  /// The header that was last put before a payload, and where it leads: most repeat it.
  var header = EncodedHeader(SocketAddress(.v4(.any), 0))
  var headerDestination = SocketAddress(.v4(.any), 0)
  /// Bytes that wait now.
  var waitingBytes = 0
  var associations = AssociationTable()
  var evictions = EvictionLimiter()
  /// When upstreams may be connected to for another association, by which may be.
  var nextAttempts: [MemberSet: Instant] = [:]
  var verdicts = DatagramVerdicts()
  var timers: TimerWheel
  var replies = ReplyPath()
  /// What is known of resolvers, of a bounded number.
  var resolvers: [SocketAddress: ResolverState] = [:]

  init(now: Instant) { timers = TimerWheel(now: now) }

  /// Gives back the memory that is needed only while datagrams come.
  mutating func release() {
    reader.release()
    stage.release()
    replies.reader.release()
    arrivals = []
    touched = []
    verdicts.removeAll()
  }
}

/// A worker's share of the place where captured datagrams arrive.
struct DatagramListener: ~Copyable {
  let socket: Descriptor
  let address: SocketAddress
  /// What was counted of those that it had no room for.
  private var lost: UInt32 = 0

  /// How many more have been lost when the kernel says that `total` are.
  mutating func newlyLost(of total: UInt32) -> Int {
    // Without any the kernel says nothing, which reads as zero.
    guard total != 0 else { return 0 }
    defer { lost = total }
    return Int(total &- lost)
  }

  init(_ socket: consuming Descriptor, on address: SocketAddress) {
    self.socket = socket
    self.address = address
  }
}
