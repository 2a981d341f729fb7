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
  /// How long the upstream may take to answer at start, and to take or hang on a pipelined handshake.
  private static let probeTimeout = Timeout.seconds(10)

  private let configuration: Configuration
  private let log: Logger

  package init(_ configuration: Configuration, log: Logger) {
    self.configuration = configuration
    self.log = log
  }

  /// Blocks until the run has ended.
  package func run() throws(CommandFailure) {
    guard System.hasNetworkAdministration else {
      throw CommandFailure(
        "redirecting traffic needs CAP_NET_ADMIN: run it with sudo", .noPermission)
    }
    let descriptors = DescriptorLimit.raise()
    let addresses = try UpstreamSetup.addresses(configuration.upstream)
    let scope = try Scope(configuration, upstreams: addresses.map(\.address))
    let rules = try keeping { () throws(NetfilterError) in try RuleKeeper(scope.policy, log: log) }
    try keeping { () throws(NetfilterError) in try rules.close() }
    do {
      try run(scope, rules, addresses, descriptors: descriptors)
    } catch {
      throw scope.policy.exit == .closed ? error.remarking(Self.staysClosed) : error
    }
  }

  /// Everything behind the point from which nothing leaves directly, where the user wants that.
  private func run(
    _ scope: Scope, _ rules: RuleKeeper, _ addresses: [SocketAddress], descriptors: Int
  ) throws(CommandFailure) {
    // Before signals are ours: a user who does not want to wait for a dead upstream can end it.
    let upstream = try reachUpstream(addresses, scope)
    if let upstream, scope.policy.capturesDatagrams {
      let refusal = UpstreamProbe.askForDatagrams(
        upstream, mark: scope.policy.numbers.marks.own.value,
        timeout: Timeouts(configuration).connect)
      if let refusal {
        log.tell(refusal, configuration)
        rules.prepare { $0.refuseDatagrams() }
      }
    }
    let supervisor = try startedUp { () throws(Errno) in
      try Supervisor(reporter: Reporter(log: log, upstream: "\(configuration.upstream)"))
    }
    let dataPlane = try makeDataPlane(
      scope, upstream, descriptors: descriptors, report: supervisor.post)
    try startedUp { () throws(Errno) in try dataPlane.start() }
    defer { dataPlane.stop() }

    var forwarding = Forwarding()
    defer { forwarding.restore() }
    if scope.policy.gateway != nil {
      try startedUp { () throws(Errno) in
        for change in try forwarding.enable() {
          log.notice("\(change)", metadata: ["event": "sysctl"])
        }
      }
    }

    try keeping { () throws(NetfilterError) in try rules.install() }
    let steward = try startedUp { () throws(Errno) in
      try Steward(configuration, rules, upstream, supervisor, log: log)
    }
    announce(scope, dataPlane)
    supervisor.waitForEnd(of: dataPlane)
    steward.retire()
    drain(dataPlane, supervisor, rules)
    dataPlane.stop()
    try keeping { () throws(NetfilterError) in try rules.remove() }
    if scope.policy.exit == .closed {
      log.notice("\(Self.staysClosed)", metadata: ["event": "closed"])
    }
    supervisor.summarise(dataPlane)
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
    log.notice(
      "capturing \(scope.description), sending it through \(configuration.upstream)",
      metadata: [
        "event": "ready", "scope": .string(scope.description),
        "upstream": .string("\(configuration.upstream)"),
      ])
    do {
      try dataPlane.provePipelining(timeout: Self.probeTimeout)
    } catch {
      log.warning("cannot probe the upstream (\(error)), ignoring")
    }
  }

  /// New connections go their own way from here on; those that are open get time to end.
  private func drain(_ dataPlane: DataPlane, _ supervisor: Supervisor, _ rules: RuleKeeper) {
    do {
      try rules.change { $0.phase = .draining }
    } catch {
      log.warning("cannot let open flows end (\(error)), ending them now")
      return
    }
    let open = dataPlane.snapshot().liveSessions
    let timeout = configuration.timeouts.drain
    guard open > 0, timeout > 0 else { return }
    log.notice(
      "capturing nothing new; open flows (\(open)) have \(timeout) s to end (again: end at once)",
      metadata: ["event": "draining", "live_sessions": .stringConvertible(open)])
    dataPlane.drain()
    supervisor.waitForDrain(of: dataPlane, timeout: .seconds(timeout))
  }

  // MARK: Pieces

  /// Nil for the embedded server, which starts with the data plane.
  private func reachUpstream(
    _ addresses: [SocketAddress], _ scope: Scope
  ) throws(CommandFailure) -> Upstream? {
    switch configuration.upstream {
    case .embedded: nil
    case .socks5:
      try UpstreamSetup.reach(
        addresses, configuration.upstream, mark: scope.policy.numbers.marks.own.value,
        timeout: Timeouts(configuration).connect)
    }
  }

  private func makeDataPlane(
    _ scope: Scope, _ upstream: Upstream?, descriptors: Int,
    report: @escaping @Sendable (Event) -> Void
  ) throws(CommandFailure) -> DataPlane {
    var listeners: [ListenerConfiguration] = []
    for listener in scope.listeners
    where try isAvailable(listener.address, StreamSocket.checkFree) {
      listeners.append(listener)
    }
    var plane = DataPlaneConfiguration(
      workers: configuration.workers ?? System.processors.count, listeners: [],
      descriptorLimit: descriptors)
    plane.mark = scope.policy.numbers.marks.own.value
    plane.timeouts = Timeouts(configuration)
    plane.datagrams = try datagrams(scope)
    if let upstream {
      plane.upstream = upstream
      plane.listeners = listeners
      return try opened(plane, report)
    }
    // Holds the embedded server's port until its listeners are on it, at the end of this scope.
    let reservation = try startedUp { () throws(Errno) in
      try StreamSocket.reservePort(on: .v4(.loopback))
    }
    defer { withExtendedLifetime(reservation) {} }
    guard let address = reservation.localAddress else {
      preconditionFailure("a bound socket has an address")
    }
    let credentials = UpstreamSetup.randomCredentials()
    plane.upstream = Upstream(address: address, credentials: credentials)
    plane.serverCredentials = credentials
    plane.servesItself = true
    plane.listeners = listeners + [ListenerConfiguration(.socks, on: address)]
    return try opened(plane, report)
  }

  /// Nil where no datagrams are captured.
  private func datagrams(_ scope: Scope) throws(CommandFailure) -> DatagramConfiguration? {
    var addresses: [SocketAddress] = []
    for address in scope.datagramAddresses
    where try isAvailable(address, DatagramSocket.checkFree) {
      addresses.append(address)
    }
    guard !addresses.isEmpty else { return nil }
    var datagrams = DatagramConfiguration(listeners: addresses)
    datagrams.replyMark = scope.policy.numbers.marks.reply.value
    datagrams.relayPlace = RelayPlace(configuration.datagrams.relay)
    if let count = configuration.datagrams.associations { datagrams.maximumAssociations = count }
    if let count = configuration.datagrams.associationsPerClient {
      datagrams.maximumAssociationsPerClient = count
    }
    datagrams.dns = DNSTransport(configuration.dns)
    datagrams.resolver = configuration.dnsServer
    return datagrams
  }

  /// Whether this host has the address at all: one without IPv6 has no `::1`.
  private func isAvailable(
    _ address: SocketAddress, _ check: (SocketAddress) throws(Errno) -> Void
  ) throws(CommandFailure) -> Bool {
    do {
      try check(address)
      return true
    } catch .addressNotAvailable where !address.address.isIPv4 {
      return false
    } catch .familyNotSupported where !address.address.isIPv4 {
      return false
    } catch {
      throw CommandFailure(listen: address, error)
    }
  }

  private func opened(
    _ plane: DataPlaneConfiguration, _ report: @escaping @Sendable (Event) -> Void
  ) throws(CommandFailure) -> DataPlane {
    do {
      return try DataPlane(plane, report: report)
    } catch {
      throw CommandFailure(listen: error.address, error.errno)
    }
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
  /// A listener that could not be opened; names who holds its port, where that can be seen.
  init(listen address: SocketAddress, _ error: Errno) {
    guard error == .addressInUse else {
      self.init("cannot listen on \(address): \(error)", .unavailable)
      return
    }
    let owner = SocketOwner.listening(on: address)
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

extension Timeouts {
  init(_ configuration: Configuration) {
    self.init()
    func set(_ timeout: inout Timeout, _ seconds: UInt32?) {
      if let seconds { timeout = .seconds(seconds) }
    }
    set(&connect, configuration.timeouts.connect)
    set(&handshake, configuration.timeouts.handshake)
    set(&idle, configuration.timeouts.idle)
    set(&halfClose, configuration.timeouts.halfClose)
    set(&datagrams, configuration.datagrams.timeouts.established)
    set(&unreplied, configuration.datagrams.timeouts.unreplied)
    set(&dns, configuration.datagrams.timeouts.dns)
  }
}

extension RelayPlace {
  fileprivate init(_ relay: UDPRelay) {
    switch relay {
    case .automatic: self = .automatic
    case .reported: self = .reported
    case .control: self = .control
    case .fixed(let address, let port): self = .fixed(address, port: port)
    }
  }
}

extension DNSTransport {
  fileprivate init(_ dns: Configuration.DNS?) {
    switch dns {
    case nil: self = .automatic
    case .udp: self = .datagrams
    case .tcp: self = .stream
    case .off: self = .ordinary
    }
  }
}
