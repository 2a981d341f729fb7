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
/// control groups that are made anew, and an upstream that dies or cannot carry IPv6; and the upstreams, when
/// the settings name others (`Steward+Reload`, `Steward+Upstreams`).
final class Steward {
  /// With what has been adopted since the start.
  var configuration: Configuration
  /// The settings as they are given now.
  let readAgain: () throws -> Configuration
  let dataPlane: DataPlane
  let rules: RuleKeeper
  let supervisor: Supervisor
  let manager: ServiceManager
  let log: Logger
  /// Which upstream has which slot, as all who tell of them know it.
  let register: UpstreamRegister
  /// Carries programs of others by the same upstreams; nil where nobody can ask for that.
  var programs: NamespaceService?
  /// Nil for the embedded server.
  var group: UpstreamGroup?
  /// Nil where nobody wants to know whether the upstream lives, and for a group, which knows by itself.
  var monitor: UpstreamMonitor?
  /// By slot; those alone that are given by their names.
  var addresses: [Int: AddressMonitor] = [:]
  /// By slot; none for the embedded server, which can do everything.
  var abilities: [Int: AbilityMonitor] = [:]
  var questions: UpstreamQuestions
  let reach: UpstreamReach
  /// The reload for which upstreams are being asked; nil if there is none.
  var underWay: Reload?
  /// Who waits for the next one.
  var waiting: [(ReloadOutcome) -> Void] = []
  /// When it is looked whether retired upstreams are still in use.
  var nextRelease = Instant.now()

  /// Registers everything with the supervisor.
  /// - Parameters:
  ///   - readAgain: gives the settings as they are given now.
  ///   - group: nil for the embedded server.
  init(
    _ configuration: Configuration, readAgain: @escaping () throws -> Configuration,
    _ rules: RuleKeeper, _ dataPlane: DataPlane, _ group: UpstreamGroup?,
    _ register: UpstreamRegister, _ supervisor: Supervisor, _ manager: ServiceManager, log: Logger
  ) throws(Errno) {
    self.configuration = configuration
    self.readAgain = readAgain
    self.dataPlane = dataPlane
    self.rules = rules
    self.supervisor = supervisor
    self.manager = manager
    self.log = log
    self.register = register
    self.group = group
    let mark = rules.policy.numbers.marks.own.value
    questions = UpstreamQuestions(mark: mark, log: log)
    reach = try UpstreamReach(mark: mark)
    for descriptor in rules.descriptors {
      try supervisor.watch(descriptor) { [rules] in rules.handleChanges() }
    }
    try supervisor.watch(reach.wakeDescriptor) { [weak self] in self?.handleArrival() }
    supervisor.onReload = { [weak self] in self?.reload { _ in } }
    supervisor.onTick = { [weak self] in self?.handleTick() }
    supervisor.onEvent = { [weak self] event in self?.handle(event) }
    if let group {
      for slot in group.order { try beginCare(of: slot, in: group) }
      try beginMonitoring(group, isDown: group.members[group.order[0]].place == .nowhere)
    } else if let carrier = dataPlane.group {
      questions.add(carrier.members[0], configuration.upstream, in: 0, configuration)
      questions.ask(0)
    }
    if monitor?.state == .down { handleDown() }
    followGroup()
  }

  /// Nothing changes by itself from here on, except what others take away.
  func retire() {
    supervisor.onReload = nil
    supervisor.onTick = nil
    supervisor.onEvent = { _ in }
    supervisor.unwatch(reach.wakeDescriptor)
  }

  // MARK: Time

  private func handleTick() {
    rules.tellSettings()
    renewControlGroups()
    monitor?.handleTime(now: .now())
    for ability in abilities.values { ability.handleTime(now: .now()) }
    questions.handleTime(now: .now()) { group?.isOut($0) == true }
    // No flow goes to one that is out, so that none would tell that it has moved.
    for (member, address) in addresses
    where group?.isOut(member) == true || group?.members[member].place == .nowhere {
      address.handleFailure(.connectFailed, known: register.roster.addresses(in: member))
    }
    releaseRetired(now: .now())
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

  func handleAnswer() {
    switch monitor?.handleAnswer() {
    case .down: handleDown()
    case .up: handleUp()
    case nil: break
    }
  }

  func handleDown() {
    guard configuration.onUpstreamDown == .open else {
      log.warning(
        "\(configuration.upstreams) is down: asking until it answers again",
        metadata: ["event": "upstream_down"])
      return
    }
    attempt("let connections go directly") { () throws(NetfilterError) in
      try rules.change { $0.phase = .suspended }
    }
    log.warning(
      "\(configuration.upstreams) is down: capturing nothing until it answers again",
      metadata: ["event": "upstream_down"])
  }

  func handleUp() {
    // The server may be another one.
    if monitor != nil, let group { questions.handleReturn(of: group.order[0]) }
    guard configuration.onUpstreamDown == .open else {
      log.notice(
        "\(configuration.upstreams) answers again", metadata: ["event": "upstream_up"])
      return
    }
    attempt("capture again") { () throws(NetfilterError) in
      try rules.change { $0.phase = .capturing }
    }
    log.notice(
      "\(configuration.upstreams) answers again: capturing", metadata: ["event": "upstream_up"])
  }

  /// The name leads elsewhere now: that is exempted first, then used.
  func handleAddress(of member: Int) {
    guard let answer = addresses[member]?.handleAnswer(),
      let url = register.roster.chain(in: member)?.first
    else { return }
    register.roster.setAddresses(answer.addresses, of: member)
    attempt("exempt the upstream's new addresses") { () throws(NetfilterError) in
      try rules.change { $0.upstreams = register.roster.exemptions }
    }
    group?.members[member].move(to: answer.place)
    // It has let us in there.
    group?.bringBack(member)
    questions.handleReturn(of: member)
    log.notice(
      "\(answer.place.name(in: url)): new connections go there",
      metadata: ["event": "upstream_moved", "place": .string("\(answer.place)")])
  }

  private func handle(_ event: Event) {
    switch event {
    case .failures(let failure, _, _, let part):
      if group?.listed.contains(part.member) == true { monitor?.handleFailure(failure) }
      handle(failure, of: part.member)
    case .memberDown(let member, let failure, othersLive: _):
      handle(failure, of: member)
      followGroup()
    case .memberUp(let member):
      questions.handleReturn(of: member)
      followGroup()
    case .pipeliningDoubted(let member): questions.handleReturn(of: member)
    case .datagramsRefused(let refusal): handleRefusal(refusal)
    case .loop(let cause, destination: _):
      if cause.isForeign { rules.record.note { $0.foreign += 1 } }
    case .acceptPaused, .exposure, .drained: break
    }
  }

  private func handle(_ failure: Failure, of member: Int) {
    questions.handleFailure(failure, of: member)
    addresses[member]?.handleFailure(failure, known: register.roster.addresses(in: member))
  }

  /// Nothing is captured while no member of the group lives, where the user wants that.
  func followGroup() {
    guard let group, group.isPlural, configuration.onUpstreamDown == .open else { return }
    let isDown = group.alive.isEmpty
    guard isDown != (rules.policy.phase == .suspended) else { return }
    if isDown { handleDown() } else { handleUp() }
  }

  func handleAbilities() {
    for ability in abilities.values.flatMap({ $0.takeAll() }) {
      switch ability {
      case .noIPv6: if group?.carriesIPv6 != true { handleNoIPv6() }
      case .carriesIPv6: handleIPv6()
      case .relaysDatagrams: if group?.datagramAbility == .relays { handleRelaying() }
      }
    }
  }

  private func handleNoIPv6() {
    attempt("reject IPv6") { () throws(NetfilterError) in
      try rules.change { $0.uncaptured.ipv6 = .reject }
    }
    log.warning(
      """
      \(configuration.upstreams) cannot carry IPv6: it is rejected, so that programs take IPv4 \
      (--ipv6 says otherwise)
      """, metadata: ["event": "no_ipv6"])
  }

  /// An upstream has been found to carry what none did.
  private func handleIPv6() {
    guard configuration.uncaptured.ipv6 == nil, rules.policy.uncaptured.ipv6 != nil else { return }
    attempt("capture IPv6") { () throws(NetfilterError) in
      try rules.change { $0.uncaptured.ipv6 = nil }
    }
    log.notice(
      "\(configuration.upstreams) carries IPv6 now: capturing it", metadata: ["event": "ipv6"])
  }

  /// Every worker may have met it.
  private func handleRefusal(_ refusal: DatagramRefusal) {
    // It may have been of upstreams that others have taken the place of since.
    if let group, group.datagramAbility != .refuses { return }
    var refused = rules.policy
    refused.refuseDatagrams()
    guard refused != rules.policy else { return }
    attempt("reject UDP") { () throws(NetfilterError) in
      try rules.change { $0.refuseDatagrams() }
    }
    tell(refusal)
  }

  /// In the words of the settings.
  func tell(_ refusal: DatagramRefusal) {
    let position = register.roster.position(of: refusal.part.member)
    log.tell(refusal.renumbered(position ?? 0), configuration)
  }

  private func handleRelaying() {
    guard configuration.wantsDatagrams, rules.policy.uncaptured.udp != nil else { return }
    attempt("capture UDP") { () throws(NetfilterError) in
      try rules.change { $0.uncaptured.udp = nil }
    }
    log.notice(
      "\(configuration.upstreams) relays datagrams now: capturing UDP",
      metadata: ["event": "datagrams_relayed"])
  }

  func attempt(_ what: String, _ step: () throws(NetfilterError) -> Void) {
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
