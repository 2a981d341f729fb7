internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import Logging
internal import NFTables
internal import Netfilter
internal import RedirectPolicy
internal import SOCKS

/// What changes the rules while a run goes on: others who take them away, lists that are read again,
/// control groups that are made anew, and an upstream that dies or cannot carry IPv6.
final class Steward {
  private let configuration: Configuration
  private let rules: RuleKeeper
  private let supervisor: Supervisor
  private let log: Logger
  /// Nil where the user wants nothing to go directly while the upstream is down.
  private let monitor: UpstreamMonitor?
  /// Nil where the upstream is not given by its name.
  private let addresses: AddressMonitor?
  private let upstream: Upstream?
  /// Nil for the embedded server, which can do everything.
  private let abilities: AbilityMonitor?

  /// Registers everything with the supervisor.
  /// - Parameter upstream: nil for the embedded server.
  init(
    _ configuration: Configuration, _ rules: RuleKeeper, _ upstream: Upstream?,
    _ supervisor: Supervisor, log: Logger
  ) throws(Errno) {
    self.configuration = configuration
    self.rules = rules
    self.supervisor = supervisor
    self.log = log
    let timeout = Timeouts(configuration).connect
    let mark = rules.policy.numbers.marks.own.value
    self.upstream = upstream
    addresses = try upstream.flatMap { (upstream) throws(Errno) in
      try AddressMonitor(configuration.upstream, upstream, mark: mark, timeout: timeout)
    }
    abilities = try upstream.map { (upstream) throws(Errno) in
      try AbilityMonitor(upstream, mark: mark, timeout: timeout)
    }
    if let upstream, configuration.onUpstreamDown == .open {
      monitor = try UpstreamMonitor(upstream, mark: mark, timeout: timeout)
    } else {
      monitor = nil
    }
    for descriptor in rules.descriptors {
      try supervisor.watch(descriptor) { [rules] in rules.handleChanges() }
    }
    if let abilities {
      try supervisor.watch(abilities.wakeDescriptor) { [weak self] in self?.handleAbilities() }
    }
    if let monitor {
      try supervisor.watch(monitor.wakeDescriptor) { [weak self] in self?.handleAnswer() }
    }
    if let addresses {
      try supervisor.watch(addresses.wakeDescriptor) { [weak self] in self?.handleAddress() }
    }
    supervisor.onReload = { [weak self] in self?.reload() }
    supervisor.onTick = { [weak self] in self?.handleTick() }
    supervisor.onEvent = { [weak self] event in self?.handle(event) }
    if configuration.uncaptured.ipv6 == nil { try abilities?.askForIPv6() }
  }

  /// Nothing changes by itself from here on, except what others take away.
  func retire() {
    supervisor.onReload = nil
    supervisor.onTick = nil
    supervisor.onEvent = { _ in }
  }

  // MARK: Lists

  /// Reads the lists again. A list with an error changes nothing.
  private func reload() {
    do {
      let destinations = try Scope.destinations(configuration.destinations)
      try rules.change { $0.destinations = destinations }
      log.notice("read the lists again", metadata: ["event": "reloaded"])
    } catch let failure as CommandFailure {
      log.error("cannot reload, going on as before: \(failure.message)", metadata: notReloaded)
    } catch {
      log.error("cannot reload, going on as before: \(error)", metadata: notReloaded)
    }
  }

  private let notReloaded: Logger.Metadata = ["event": "not_reloaded"]

  // MARK: Time

  private func handleTick() {
    rules.tellSettings()
    renewControlGroups()
    monitor?.handleTime(now: .now())
    abilities?.handleTime(now: .now())
  }

  /// A unit that is started again has a control group of the same name and another number.
  private func renewControlGroups() {
    guard let machine = rules.policy.machine, !machine.controlGroups.isEverything,
      let groups = ControlGroups()
    else { return }
    var renewed = machine.controlGroups
    renewed.only = renewed.only.map { $0.renewed(in: groups) }
    renewed.except = renewed.except.map { $0.renewed(in: groups) }
    guard renewed != machine.controlGroups else { return }
    attempt("follow a control group that was made anew") { () throws(NetfilterError) in
      try rules.change { $0.machine?.controlGroups = renewed }
    }
  }

  // MARK: Upstream

  private func handleAnswer() {
    switch monitor?.handleAnswer() {
    case .down:
      attempt("let connections go directly") { () throws(NetfilterError) in
        try rules.change { $0.phase = .suspended }
      }
      log.warning(
        "\(configuration.upstream) is down: capturing nothing until it answers again",
        metadata: ["event": "upstream_down"])
    case .up:
      attempt("capture again") { () throws(NetfilterError) in
        try rules.change { $0.phase = .capturing }
      }
      log.notice(
        "\(configuration.upstream) answers again: capturing", metadata: ["event": "upstream_up"])
    case nil: break
    }
  }

  /// The name leads elsewhere now: that is exempted first, then used.
  private func handleAddress() {
    guard let answer = addresses?.handleAnswer() else { return }
    attempt("exempt the upstream's new addresses") { () throws(NetfilterError) in
      try rules.change { $0.upstreams = answer.addresses }
    }
    upstream?.move(to: answer.place)
    log.notice(
      "\(answer.place.name(in: configuration.upstream.first)): new connections go there",
      metadata: ["event": "upstream_moved", "place": .string("\(answer.place)")])
  }

  private func handle(_ event: Event) {
    switch event {
    case .failures(let failure, _, _, _):
      monitor?.handleFailure(failure)
      addresses?.handleFailure(failure, known: rules.policy.upstreams)
    case .datagramsRefused(let failure): handleRefusal(failure)
    case .loop, .pipelining, .acceptPaused, .drained: break
    }
  }

  private func handleAbilities() {
    for ability in abilities?.takeAll() ?? [] {
      switch ability {
      case .noIPv6: handleNoIPv6()
      case .relaysDatagrams: handleRelaying()
      }
    }
  }

  private func handleNoIPv6() {
    attempt("reject IPv6") { () throws(NetfilterError) in
      try rules.change { $0.uncaptured.ipv6 = .reject }
    }
    log.warning(
      """
      \(configuration.upstream) cannot carry IPv6: it is rejected, so that programs take IPv4 \
      (--ipv6 says otherwise)
      """, metadata: ["event": "no_ipv6"])
  }

  /// Every worker may have met it.
  private func handleRefusal(_ failure: HandshakeFailure) {
    var refused = rules.policy
    refused.refuseDatagrams()
    guard refused != rules.policy else { return }
    attempt("reject UDP") { () throws(NetfilterError) in
      try rules.change { $0.refuseDatagrams() }
    }
    log.tell(failure, configuration)
  }

  private func handleRelaying() {
    guard configuration.wantsDatagrams else { return }
    attempt("capture UDP") { () throws(NetfilterError) in
      try rules.change { $0.uncaptured.udp = nil }
    }
    log.notice(
      "\(configuration.upstream) relays datagrams now: capturing UDP",
      metadata: ["event": "datagrams_relayed"])
  }

  private func attempt(_ what: String, _ step: () throws(NetfilterError) -> Void) {
    do {
      try step()
    } catch {
      log.error("cannot \(what): \(error)", metadata: ["event": "rules_failed"])
    }
  }
}

extension ControlGroup {
  /// With the number that the group of this path has now; the same while there is none.
  fileprivate func renewed(in groups: ControlGroups) -> ControlGroup {
    let components = path.split(separator: "/").suffix(Int(level)).joined(separator: "/")
    guard let identifier = groups.identifier(of: components) else { return self }
    return ControlGroup(path: path, level: level, identifier: identifier)
  }
}
