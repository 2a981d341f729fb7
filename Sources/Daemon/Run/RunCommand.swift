internal import Addressing
package import Configuration
internal import DataPlane
internal import LinuxIO
package import Logging
internal import NFTables
internal import Netfilter
internal import RedirectPolicy

/// `sluice run`: listeners, upstream, rules, until a signal; then all of it away again, in the order
/// in which no flow is lost and nothing is left behind.
package struct RunCommand {
  let configuration: Configuration
  private let readAgain: () throws -> Configuration
  let log: Logger

  /// - Parameter readAgain: gives the settings as they are given when it is called.
  package init(
    _ configuration: Configuration, readAgain: @escaping () throws -> Configuration, log: Logger
  ) {
    self.configuration = configuration
    self.readAgain = readAgain
    self.log = log
  }

  /// Blocks until the run has ended.
  package func run() throws(CommandFailure) {
    guard System.hasNetworkAdministration else {
      throw CommandFailure(
        "redirecting traffic needs CAP_NET_ADMIN: run it with sudo", .noPermission)
    }
    let store = DescriptorStore(log: log)
    let manager = ServiceManager(log: log)
    try checkControlGroup()
    let metrics = try MetricsServer.open(at: configuration.metrics, group: controlGroup)
    let descriptors = DescriptorLimit.raise()
    let places = try UpstreamSetup.placesSoFar(configuration.upstreams)
    let scope = try Scope(configuration, upstreams: places.joined().compactMap(\.exemption))
    guard System.hasRawSockets || !scope.policy.capturesDatagrams else {
      throw CommandFailure(
        "answering datagrams in the name of others needs CAP_NET_RAW: run it with sudo, or leave UDP "
          + "alone: --udp bypass --dns off", .noPermission)
    }
    let rules = try keeping { () throws(NetfilterError) in
      try RuleKeeper(scope.policy, continuing: store.takeRules(), log: log)
    }
    try keeping { () throws(NetfilterError) in try rules.close() }
    do {
      try run(scope, rules, places, descriptors: descriptors, store, manager, metrics)
    } catch {
      throw scope.policy.exit == .closed ? error.remarking(Self.staysClosed) : error
    }
  }

  /// Everything behind the point from which nothing leaves directly, where the user wants that.
  private func run(
    _ scope: Scope, _ rules: RuleKeeper, _ places: [[Upstream.Place]], descriptors: Int,
    _ store: DescriptorStore, _ manager: ServiceManager, _ metrics: MetricsServer?
  ) throws(CommandFailure) {
    // Before signals are ours: a user who does not want to wait for a dead upstream can end it.
    let group = try reachUpstreams(places, scope)
    if let group, scope.policy.capturesDatagrams {
      let refusal = group.askForDatagrams(
        mark: scope.policy.numbers.marks.own.value,
        timeout: Timeouts(configuration).connect)
      if let refusal {
        log.tell(refusal, configuration)
        rules.prepare { $0.refuseDatagrams() }
      }
    }
    let register = UpstreamRegister(
      UpstreamRoster(
        configuration.upstreams, addresses: places.map { $0.compactMap(\.exemption) }))
    let supervisor = try startedUp { () throws(Errno) in
      try Supervisor(reporter: Reporter(log: log, register))
    }
    let share = NamespaceService.Share(of: configuration.control == nil ? 0 : descriptors)
    let dataPlane = try makeDataPlane(
      scope, group, store, descriptors: descriptors - share.total, report: supervisor.post)
    try startedUp { () throws(Errno) in
      try dataPlane.start()
      try dataPlane.watchGroup()
    }
    defer { dataPlane.stop() }

    var forwarding = Forwarding(continuing: store.takeForwarding())
    defer { if !supervisor.isHandingOver { forwarding.restore() } }
    if scope.policy.gateway == nil {
      forwarding.restore()
    } else {
      try startedUp { () throws(Errno) in
        for change in try forwarding.enable() {
          log.notice("\(change)", metadata: ["event": "sysctl"])
        }
      }
    }

    try keeping { () throws(NetfilterError) in try rules.install() }
    let steward = try startedUp { () throws(Errno) in
      try Steward(
        configuration, readAgain: readAgain, rules, dataPlane, group, register, supervisor, manager,
        log: log)
    }
    let board = StatusBoard(register, dataPlane, rules.record)
    supervisor.addTick { board.handleTime(now: .now()) }
    let drainRequest = try startedUp { () throws(Errno) in
      let request = try DrainRequest()
      try supervisor.watch(request.wakeDescriptor) { request.clearWake() }
      return request
    }
    let reloadRequest = try startedUp { () throws(Errno) in
      let request = try ReloadRequest()
      try supervisor.watch(request.wakeDescriptor) {
        request.grant { finish in steward.reload(finish) }
      }
      return request
    }
    let service = makeService(scope, dataPlane, register, share, report: supervisor.post)
    steward.programs = service
    let control = openControl(dataPlane, register, board, drainRequest, reloadRequest, service)
    defer { control?.stop() }
    try metrics?.start(log) { board.reading((control?.limits ?? []) + $0) }
    defer { metrics?.stop() }
    announce(scope, dataPlane)
    supervisor.serve(manager)
    supervisor.canHandOver = isContinuable(
      scope, forwarding: forwarding.record, rules, store, manager)
    manager.tellReady(
      "capturing \(scope.description), sending it through \(configuration.upstreams)")
    supervisor.waitForEnd(of: dataPlane) { drainRequest.isMade }
    manager.tellStopping(
      supervisor.isHandingOver
        ? "new connections wait for the next run" : "open flows have time to end")
    steward.retire()
    reloadRequest.close()
    if supervisor.isHandingOver {
      handOver(dataPlane, control, supervisor)
      control?.stop()
      dataPlane.stop()
      rules.leave()
      supervisor.summarise(dataPlane)
      return
    }
    drain(
      dataPlane, control, supervisor, rules,
      timeout: drainRequest.timeout ?? steward.configuration.timeouts.drain)
    control?.stop()
    dataPlane.stop()
    try keeping { () throws(NetfilterError) in try rules.remove() }
    if scope.policy.exit == .closed {
      log.notice("\(Self.staysClosed)", metadata: ["event": "closed"])
    }
    supervisor.summarise(dataPlane)
  }

  /// A resolver in a private range is as direct as everything there, and so are the names that programs
  /// look up.
  private func tellDirectQueries(_ scope: Scope) {
    let servers = NameServers.current().direct(under: scope.policy)
    guard !servers.isEmpty else { return }
    let names = servers.map { "\($0)" }.joined(separator: ", ")
    log.notice(
      """
      names are looked up by \(names), directly and not through the upstream; --dns-server ADDRESS \
      sends all queries through it, to a resolver of your choice
      """, metadata: ["event": "direct_queries", "servers": .string(names)])
  }

  /// What somebody who wants an exit closed has to know after it.
  private static let staysClosed =
    "what would be captured is rejected until Sluice runs again; to end that: sluice rules remove"

  private func announce(_ scope: Scope, _ dataPlane: DataPlane) {
    let numbers = scope.policy.numbers
    if numbers != Numbers() {
      log.notice(
        """
        other programs use our usual numbers: taking the bits 0x\(String(numbers.marks.mask, radix: 16)) \
        of marks, ip rules from priority \(numbers.rulePriority) on, and route table \
        \(numbers.routeTable)
        """, metadata: ["event": "numbers"])
    }
    for name in scope.policy.gateway?.interfaces ?? []
    where !name.hasSuffix("*") && !System.hasInterface(name) {
      log.warning(
        "there is no interface \(name): nothing is captured there until there is",
        metadata: ["event": "no_interface", "interface": .string(name)])
    }
    if let note = scope.note { log.warning("\(note)", metadata: ["event": "note"]) }
    if configuration.dns != .off { tellDirectQueries(scope) }
    UpstreamSecrets.tell(configuration, log)
    log.notice(
      "capturing \(scope.description), sending it through \(configuration.upstreams)",
      metadata: [
        "event": "ready", "scope": .string(scope.description),
        "upstream": .string("\(configuration.upstreams)"),
      ])
  }

  /// How long workers may take to accept what has connected. They do it at once, but for one that a program of
  /// `exec --daemon` holds up, which shares its sockets.
  private static let closingPatience = Timeout.seconds(1)

  /// New connections go their own way from here on; those that are open get time to end.
  private func drain(
    _ dataPlane: DataPlane, _ control: ControlSocket?, _ supervisor: Supervisor,
    _ rules: RuleKeeper, timeout: UInt32
  ) {
    do {
      try rules.change { $0.phase = .draining }
    } catch {
      log.warning("cannot let open flows end (\(error)), ending them now")
      return
    }
    guard timeout > 0 else { return }
    dataPlane.drain(acceptsWaiting: true)
    control?.drain()
    supervisor.waitForDrain(of: dataPlane, timeout: Self.closingPatience) {
      !dataPlane.isListening && control?.isListening != true
    }
    let open = dataPlane.snapshot().liveSessions + (control?.liveSessions ?? 0)
    guard open > 0 else { return }
    log.notice(
      "capturing nothing new; open flows (\(open)) have \(timeout) s to end (again: end at once)",
      metadata: ["event": "draining", "live_sessions": .stringConvertible(open)])
    supervisor.waitForDrain(of: dataPlane, timeout: .seconds(timeout)) {
      dataPlane.snapshot().isIdle && (control?.liveSessions ?? 0) == 0
    }
  }

  // MARK: Pieces

  /// Nil for the embedded server, which starts with the data plane.
  private func reachUpstreams(
    _ places: [[Upstream.Place]], _ scope: Scope
  ) throws(CommandFailure) -> UpstreamGroup? {
    if configuration.upstream.first.isThisProcess { return nil }
    let group = try UpstreamSetup.reach(
      places, configuration.upstreams, mark: scope.policy.numbers.marks.own.value,
      timeout: Timeouts(configuration).connect, log: log)
    if let policy = try Policy(configuration) { group.datagramMembers = policy.datagramMembers }
    return group
  }
}

/// Runs a step of which only the kernel's rules can be the trouble.
private func keeping<Result>(
  _ step: () throws(NetfilterError) -> Result
) throws(CommandFailure) -> Result {
  do {
    return try step()
  } catch {
    throw CommandFailure(rules: error)
  }
}

/// Runs a step of the start whose failure has no better explanation than its errno.
func startedUp<Result: ~Copyable>(
  _ step: () throws(Errno) -> Result
) throws(CommandFailure) -> Result {
  do {
    return try step()
  } catch {
    throw CommandFailure("cannot start: \(error)", .unavailable)
  }
}

extension CommandFailure {
  /// The place of metrics is taken.
  init(metrics address: SocketAddress) {
    let holder = SocketOwner.listening(on: address).map { "\($0.name) (pid \($0.processID))" }
    self.init(
      "--metrics \(address): the port is in use by \(holder ?? "another program"): choose another",
      .unavailable)
  }

  /// A listener that could not be opened; names who holds its port, where that can be seen.
  init(listen address: SocketAddress, _ error: Errno) {
    guard error == .addressInUse else {
      self.init("cannot listen on \(address): \(error)", .unavailable)
      return
    }
    let owner = SocketOwner.listening(on: address) ?? SocketOwner.ofDatagrams(at: address)
    let holder = owner.map { "\($0.name) (pid \($0.processID))" } ?? "another program"
    self.init(
      owner?.name == "sluice"
        ? "another sluice (pid \(owner?.processID ?? 0)) is running here: stop it first"
        : "port \(address.port) is in use by \(holder): choose another with --port or --listen",
      .unavailable)
  }

  init(rules error: NetfilterError) {
    switch error {
    case .notPermitted: self.init("\(error)", .noPermission)
    case .heldByAnother, .unsupported, .failed: self.init("\(error)", .unavailable)
    }
  }
}
