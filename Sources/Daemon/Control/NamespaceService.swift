internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import NFTables
internal import SOCKS
internal import Synchronization

/// Carries what programs send whose namespaces other processes of this host have made: each has a data
/// plane of its own, with the upstream and the settings of the run. Used from any thread.
final class NamespaceService: Sendable {
  /// Programs at once, however many descriptors there are.
  private static let maximumPrograms = 64
  /// Descriptors of one program at least.
  private static let minimumDescriptors = 256
  /// Of each program.
  static let workers = 1

  /// Why a request is not granted: a line for people.
  struct Refusal: Error {
    let message: String

    init(_ message: String) { self.message = message }
  }

  /// How the descriptors that this process may have open are divided.
  struct Share: Equatable {
    let ofEachProgram: Int
    let programs: Int

    /// A quarter at most is for programs.
    init(of limit: Int) {
      ofEachProgram = max(limit / 4 / maximumPrograms, minimumDescriptors)
      programs = min(limit / 4 / ofEachProgram, maximumPrograms)
    }

    /// Of all programs.
    var total: Int { ofEachProgram * programs }
  }

  private static let ending = Refusal("it is about to end")

  /// What is carried for one process.
  struct Program: Sendable {
    let plane: DataPlane
    /// Who has asked for it; nil if the kernel does not tell.
    let peer: LocalSocket.Peer?
    fileprivate let audit: Audit?
    fileprivate let inquiry: Inquiry

    /// Looks at the data plane, unless it has ended; it does not end meanwhile.
    func inquire<Answer>(_ question: (DataPlane) -> Answer) -> Answer? {
      inquiry.mayBegin.withLock { $0 ? question(plane) : nil }
    }
  }

  fileprivate final class Inquiry: Sendable {
    /// False when the data plane ends.
    let mayBegin = Mutex(true)
  }

  private struct State {
    var group: UpstreamGroup
    /// By which it has taken the place of another; nil for the first.
    var change: GroupChange?
    var entered = 0
    var programs: [Int: Program] = [:]
    var next = 0
    var isDraining = false
  }

  private let configuration: Configuration
  private let register: UpstreamRegister
  private let mark: UInt32
  private let share: Share
  private let post: @Sendable (Event) -> Void
  private let state: Mutex<State>

  /// - Parameters:
  ///   - mark: of everything that is sent for them (`SO_MARK`).
  ///   - post: is called on worker threads with what concerns the run as well, and must not block.
  init(
    _ configuration: Configuration, _ group: UpstreamGroup, _ register: UpstreamRegister,
    mark: UInt32, _ share: Share, post: @escaping @Sendable (Event) -> Void
  ) {
    self.configuration = configuration
    self.register = register
    state = Mutex(State(group: group))
    self.mark = mark
    self.share = share
    self.post = post
  }

  var description: ServiceDescription {
    let group = state.withLock { $0.group }
    return ServiceDescription(
      upstreams: register.roster.selection,
      datagrams: group.datagramAbility(of: group.standard),
      carriesIPv6: group.carriesIPv6)
  }

  /// Of programs.
  var use: RunStatus.Limit {
    RunStatus.Limit(
      name: "programs", used: state.withLock { $0.entered }, limit: share.programs)
  }

  /// Makes sure that there is room for another program until `leave`.
  func enter() throws(Refusal) {
    let refusal: String? = state.withLock { state in
      if state.isDraining { return Self.ending.message }
      guard state.entered < share.programs else {
        return share.programs == 0
          ? "its limit of descriptors leaves none for programs: raise it (LimitNOFILE=)"
          : "it carries \(share.programs) programs already, and no more"
      }
      state.entered += 1
      return nil
    }
    if let refusal { throw Refusal(refusal) }
  }

  func leave() { state.withLock { $0.entered -= 1 } }

  /// Carries the traffic from now on; for who has entered.
  /// - Parameters:
  ///   - descriptors: the sockets for it, which belong to the service from here on.
  ///   - peer: who has asked for it.
  /// - Returns: what `close` takes.
  func open(
    _ traffic: ConfinedTraffic, _ descriptors: [Int32], for peer: LocalSocket.Peer?, audit: Bool
  ) throws(Refusal) -> Int {
    let number = state.withLock { state in
      state.next += 1
      return state.next
    }
    var configuration = traffic.plane(self.configuration, workers: Self.workers)
    configuration.firstWorker = Configuration.maximumWorkers + number * Self.workers
    configuration.handedSockets = try Self.check(descriptors, configuration.ingressSockets)
    let group = state.withLock { $0.group }
    configuration.group = group
    configuration.mark = mark
    configuration.owners = .fixed(peer.map(FlowIdentity.Owner.init) ?? .init())
    configuration.descriptorLimit = share.ofEachProgram
    configuration.audit = audit ? Audit() : nil
    let program = Program(
      plane: try start(configuration), peer: peer, audit: configuration.audit, inquiry: Inquiry())
    let isDraining = state.withLock { state in
      if !state.isDraining { state.programs[number] = program }
      if state.group !== group, let change = state.change { adopt(change, program) }
      return state.isDraining
    }
    guard !isDraining else {
      program.plane.stop()
      throw Self.ending
    }
    return number
  }

  /// Has programs go through other upstreams as well, which the run does from now on.
  /// - Parameter change: without rules, which are of captured flows.
  func adopt(_ change: GroupChange) {
    state.withLock { state in
      state.group = change.group
      state.change = change
      for program in state.programs.values { adopt(change, program) }
    }
  }

  private func adopt(_ change: GroupChange, _ program: Program) {
    do {
      try program.plane.adopt(change)
    } catch {
      preconditionFailure(
        "a program's data plane watches no group, and cannot fail in that: \(error)")
    }
  }

  /// Blocks until nothing more is carried; nothing the second time.
  /// - Returns: the audit, if there is one.
  @discardableResult
  func close(_ number: Int) -> AuditReport? {
    let (program, isDraining) = state.withLock { state in
      (state.programs.removeValue(forKey: number), state.isDraining)
    }
    guard let program else { return nil }
    program.inquiry.mayBegin.withLock { $0 = false }
    program.plane.stop()
    if isDraining { post(.drained) }
    return program.audit.map { AuditReport($0) }
  }

  private func start(_ configuration: DataPlaneConfiguration) throws(Refusal) -> DataPlane {
    let plane: DataPlane
    do {
      plane = try DataPlane(configuration) { [post] event in
        if event.concernsRun { post(event) }
      }
    } catch {
      throw Refusal("cannot use the socket for \(error.address): \(error.errno)")
    }
    do {
      try plane.start()
    } catch {
      throw Refusal("cannot start a thread: \(error)")
    }
    return plane
  }

  /// Whoever has made them may have made anything.
  private static func check(
    _ descriptors: [Int32], _ sockets: [IngressSocket]
  ) throws(Refusal) -> HandedSockets {
    let handed = HandedSockets()
    // What is sent for a program that was in the same would come back as its own.
    let namespace = Self.networkNamespace
    var refusal: Refusal?
    if descriptors.count != sockets.count {
      refusal = Refusal("\(descriptors.count) descriptors came, and \(sockets.count) are needed")
    }
    for (index, number) in descriptors.enumerated() {
      let descriptor = Descriptor(owning: number)
      guard refusal == nil else { continue }
      if descriptor.kind != sockets[index].kind || (try? descriptor.makeNonblocking()) == nil {
        refusal = Refusal("descriptor \(index) is not the socket that belongs there")
      } else if let namespace, descriptor.networkNamespace == namespace {
        refusal = Refusal("descriptor \(index) is of this host's own network namespace")
      } else {
        handed.add(descriptor, as: sockets[index])
      }
    }
    if let refusal { throw refusal }
    return handed
  }

  /// Of this process; nil if the kernel does not tell.
  private static var networkNamespace: UInt64? {
    guard let socket = try? StreamSocket.open(isIPv4: true) else { return nil }
    return socket.networkNamespace
  }

  /// Those that are carried now.
  var programs: [Program] { state.withLock { Array($0.programs.values) } }

  // MARK: The end of the run

  /// Takes no new connections, and no new programs; what is open goes on.
  func drain() {
    let programs = state.withLock { state in
      state.isDraining = true
      return Array(state.programs.values)
    }
    for program in programs { program.plane.drain(acceptsWaiting: true) }
  }

  /// Whether connections of a program may still be accepted after `drain`.
  var isListening: Bool { programs.contains { $0.plane.isListening } }

  /// Flows that are open.
  var liveSessions: UInt64 {
    programs.reduce(0) { $0 + $1.plane.snapshot().liveSessions }
  }
}

extension Event {
  /// Whether it is more than a matter of the program alone.
  fileprivate var concernsRun: Bool {
    switch self {
    case .failures, .pipeliningDoubted, .datagramsRefused, .memberDown, .memberUp, .drained: true
    // Nil: the share of the program is used up.
    case .acceptPaused(let error): error != nil
    case .loop, .exposure: false
    }
  }
}
