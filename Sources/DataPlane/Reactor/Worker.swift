internal import Addressing
internal import LinuxIO
internal import SOCKS
internal import Synchronization

/// A thread and its loop: it owns its listeners and every session that it accepts, and shares
/// nothing on a flow's way but the read-only configuration, the descriptor budget and its counters.
///
/// Its parts: `Worker+Accept` (ingress), `Worker+Policy` (which way a flow takes), `Worker+Upstream` (towards the proxy), `Worker+Forward` (to
/// fixed targets), `Worker+Serve` (the embedded server), `Worker+Access` (its rules), `Worker+Bind` (its listeners),
/// `Worker+Associate` and `Worker+ServedDatagrams` (its associations), `Worker+Relay` (bytes, and the end of
/// a session), `Worker+Pool` (connections that wait for sessions), `Worker+Group` and `Worker+GroupChange`
/// (which upstream), `Worker+Protected` (the same through GSSAPI), `Worker+Expose` (a service behind the upstream's
/// listener); for captured datagrams `Worker+Datagrams` (out),
/// `Worker+Associations`, `Worker+DatagramReplies` (back), `Worker+Queries` and `Worker+Resolvers` (DNS
/// by TCP); `Worker+Audit` for what is recorded of both, `Worker+Timing` for
/// how long handshakes take, `Worker+Flows` for who asks what there is.
///
/// SAFETY: unchecked, since it is made on one thread and then used on its own thread only.
final class Worker: @unchecked Sendable {
  /// Events taken from the kernel at once.
  private static let eventsPerTurn = 256
  /// How often a paused worker looks whether there is room again.
  static let pauseInterval = Timeout(milliseconds: 50)

  private(set) var configuration: DataPlaneConfiguration
  let budget: DescriptorBudget
  let quota: AssociationQuota
  let resolver: Resolver
  let carrier: QueryCarrier
  let report: @Sendable (Event) -> Void
  let mailbox: Mailbox<Command>
  let counters = Counters()
  let phases: PhaseHistograms

  var epoll: Epoll
  /// Nil where one was closed: tokens carry the index.
  var listeners: [Listener?] = []
  var sessions = SessionTable()
  /// By the session's index; empty without an audit.
  var sessionTraffic: [Audit.Traffic] = []
  var timers: TimerWheel
  var resources: RelayResources
  var runQueue: [Token] = []
  /// Empty except during a round; the two change places, so that neither is made anew.
  private var round: [Token] = []
  var negotiations = NegotiationPool()
  var datagramListenerV4: DatagramListener?
  var datagramListenerV6: DatagramListener?
  var datagrams: DatagramResources
  var resolvers: ResolverTable
  var loops: LoopDetector?
  var datagramLoops: LoopDetector?
  /// Nil where nobody asks.
  var socketOwners: SocketOwners?
  var problems = ProblemLimiter()
  /// Connections that race for sessions.
  var contenders = SlotTable<Contender>()
  /// Nil where none are kept.
  var pool: ConnectionPool?
  /// Of members of the group, for connections, for associations, and for queries by TCP: each on its own,
  /// since those that come by turns would else be sorted.
  var sessionChoice: MemberChoice
  var associationChoice: MemberChoice
  var resolverChoice: MemberChoice
  /// Sessions that wait for the peer of a BIND.
  var listeningCount = 0
  /// Nil where nothing is exposed, or by another worker.
  var exposing: ExposureProgress?
  /// Made when the embedded server has its first association.
  lazy var served = ServedBatch()

  /// The time of this turn, and the same as exactly as it was read.
  var now: Instant
  private(set) var clock: ClockReading
  /// Questions for all flows that have not been answered wholly.
  var walks: [FlowWalk] = []
  var pausedUntil: Instant?
  /// Whether captured connections begin without pacing, and get it if their path is long.
  var acceptsUnpaced = false
  /// When the queue of the upstream's Unix socket, which was full, is tried again.
  var nextUpstreamAttempt = Instant(milliseconds: 0)
  /// When idle pipes are looked for, while there are any.
  var nextSweep: Instant?
  private(set) var isDraining = false
  /// For other threads: nothing that comes later is accepted.
  let hasClosedListeners = Atomic(false)
  private var isStopped = false

  /// - Parameter carrier: leads to the worker that carries queries; nil if that is this one.
  init(
    _ configuration: DataPlaneConfiguration, budget: DescriptorBudget,
    quota: AssociationQuota,
    resolver: Resolver, carrier: QueryCarrier?, report: @escaping @Sendable (Event) -> Void
  ) throws(Errno) {
    self.configuration = configuration
    let choice = MemberChoice(
      configuration.group?.balance ?? .failover, turn: System.randomBytes(1)[0])
    (sessionChoice, associationChoice, resolverChoice) = (choice, choice, choice)
    self.budget = budget
    self.quota = quota
    self.resolver = resolver
    self.report = report
    mailbox = try Mailbox()
    self.carrier = carrier ?? QueryCarrier(mailbox)
    epoll = try Epoll(capacity: Self.eventsPerTurn)
    resources = RelayResources(
      budget: budget, leavesPacing: configuration.tuning?.congestion == nil)
    socketOwners = try configuration.makeSocketOwners()
    phases = PhaseHistograms(
      members: configuration.group == nil ? 0 : MemberSet.maximumMembers)
    clock = .now()
    now = clock.instant
    timers = TimerWheel(now: now)
    datagrams = DatagramResources(now: now)
    resolvers = ResolverTable(now: now)
    if configuration.detectsLoops {
      loops = configuration.group.map { LoopDetector(upstreams: $0.members) }
    }
    datagramLoops = loops
    pool = ConnectionPool(configuration, now: now)
    // The first worker is the one without another's carrier.
    if carrier == nil { exposing = configuration.exposure.map { ExposureProgress($0, now: now) } }
    try epoll.add(
      mailbox.wakeDescriptor, [.readable, .edgeTriggered], token: Token(.waker, index: 0).rawValue)
  }

  func run() {
    while !isStopped {
      let count = epoll.wait(milliseconds: waitMilliseconds)
      clock = .now()
      now = clock.instant
      resources.beginTurn()
      for index in 0..<count {
        let (token, readiness) = epoll.event(at: index)
        handle(Token(rawValue: token), readiness)
      }
      flushReplies()
      runQueued()
      while let index = timers.next(now: now) { handleTimeout(index) }
      while let index = datagrams.timers.next(now: now) { handleAssociationTimeout(index) }
      while let index = resolvers.timers.next(now: now) { handleResolverTimeout(index) }
      resumeAccepting()
      sweepPipes()
      expose()
      tendPool()
      tellUse()
      walk()
    }
    closePool()
    endAll()
    endAssociations()
    endResolvers()
  }

  private var waitMilliseconds: Int32 {
    if !runQueue.isEmpty || !walks.isEmpty { return 0 }
    let expiry = earliest(
      earliest(timers.nextExpiry, datagrams.timers.nextExpiry), resolvers.timers.nextExpiry)
    let turn = earliest(earliest(pausedUntil, nextSweep), earliest(nextExposure, pool?.nextTurn))
    guard let next = earliest(expiry, turn) else { return -1 }
    return Int32(clamping: next.milliseconds(since: .now()))
  }

  private func handle(_ token: Token, _ readiness: Readiness) {
    switch token.kind {
    case .listener:
      accept(from: token.index)
    case .waker:
      for command in mailbox.takeAll() { handle(command) }
    case .datagramListener: receiveDatagrams(isIPv4: token.index == 0)
    case .associationRelay: handleRelay(token)
    case .associationControl: handleAssociation(token, readiness)
    case .associationLeg: handleLeg(token, readiness)
    case .downstream, .upstream:
      guard let session = sessions.find(token) else { return }
      let isDownstream = token.kind == .downstream
      if isDownstream {
        session.pointee.downstreamReadiness.formUnion(readiness)
      } else {
        session.pointee.upstreamReadiness.formUnion(readiness)
      }
      let socket =
        isDownstream
        ? session.pointee.downstream?.rawValue : session.pointee.upstream?.rawValue
      if readiness.contains(.urgent), let socket { StreamSocket.receiveUrgentInline(socket) }
      drive(token.index)
    case .contender: handleContender(token, readiness)
    case .pooled: handlePooled(token, readiness)
    case .servedRelay, .servedExit, .servedExitV6:
      handleServed(token)
    case .resolver:
      handleResolverEvent(token, readiness)
    }
  }

  private func handle(_ command: Command) {
    switch command {
    case .resolved(let token, let name, let addresses):
      handleResolved(Token(rawValue: token), name, addresses)
    case .stepped(let token, let result):
      handleStepped(Token(rawValue: token), result)
    case .carry(let query):
      handleCarried(query)
    case .adopt(let timeouts, let halfClose):
      configuration.timeouts = timeouts
      configuration.halfClose = halfClose
    case .rule(let policy):
      let former = configuration.policy
      configuration.policy = policy
      adoptRules(after: former)
    case .regroup(let change):
      let former = configuration.policy
      configuration.group = change.group
      configuration.policy = change.policy
      adoptRules(after: former)
      adoptGroup(change)
    case .tellMembers(let inquiry):
      inquiry.add(members: membersInUse)
      inquiry.finish()
    case .list(let inquiry, let worker): walks.append(FlowWalk(inquiry, worker: worker))
    case .end(let flows, let inquiry): end(flows, inquiry)
    case .drain(let acceptsWaiting): drain(acceptsWaiting: acceptsWaiting)
    case .stop:
      isStopped = true
    }
  }

  /// Goes on with the session at `index` as far as it gets.
  func drive(_ index: Int) {
    switch sessions[index].pointee.state {
    case .vacant: return
    case .connecting: driveConnecting(index)
    case .racing: driveRacing(index)
    case .handshaking: driveHandshaking(index)
    case .negotiating: driveNegotiating(index)
    case .resolving: driveResolving(index)
    case .listening: driveListening(index)
    case .relaying: driveRelaying(index)
    case .protected: driveProtected(index)
    case .associated: driveAssociated(index)
    case .rejecting: driveRejecting(index)
    case .binding, .awaiting: driveExposing(index)
    case .delivering: driveDelivering(index)
    }
  }

  /// One round over the sessions that yielded; what yields again waits for the next turn.
  private func runQueued() {
    guard !runQueue.isEmpty else { return }
    swap(&runQueue, &round)
    for token in round {
      guard let session = sessions.find(token) else { continue }
      session.pointee.isQueued = false
      drive(token.index)
    }
    round.removeAll(keepingCapacity: true)
  }

  private func drain(acceptsWaiting: Bool) {
    isDraining = true
    // Where clients of the embedded server wait for the next one, this one takes no more of them.
    let leavesClients = configuration.servingSockets != nil
    for (index, listener) in listeners.enumerated() {
      guard let listener, leavesClients || !listener.ingress.isServing else { continue }
      if acceptsWaiting { while accept(from: index) {} }
      close(listenerAt: index)
    }
    drainResolvers()
    closePool()
    hasClosedListeners.store(true, ordering: .releasing)
    report(.drained)
  }

  func reportIfDrained() {
    if isDraining, sessions.count == 0, resolvers.isEmpty { report(.drained) }
  }
}

private func earliest(_ a: Instant?, _ b: Instant?) -> Instant? {
  guard let a, let b else { return a ?? b }
  return min(a, b)
}
