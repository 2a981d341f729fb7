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
  /// With what has been adopted since the start.
  private(set) var configuration: Configuration
  /// The settings as they are given now.
  private let readAgain: () throws -> Configuration
  private let dataPlane: DataPlane
  private let rules: RuleKeeper
  private let supervisor: Supervisor
  private let log: Logger
  /// Nil where nobody wants to know whether the upstream lives, and for a group, which knows by itself.
  private let monitor: UpstreamMonitor?
  /// Of each upstream; nil where that is not given by its name.
  private var addresses: [AddressMonitor?] = []
  /// Nil for the embedded server.
  private let group: UpstreamGroup?
  /// Of each upstream; none for the embedded server, which can do everything.
  private var abilities: [AbilityMonitor] = []
  private var questions: UpstreamQuestions
  /// The addresses of each upstream that are exempt.
  private var exemptions: [[IPAddress]]

  /// Registers everything with the supervisor.
  /// - Parameters:
  ///   - readAgain: gives the settings as they are given now.
  ///   - group: nil for the embedded server.
  ///   - exemptions: the addresses of each member.
  init(
    _ configuration: Configuration, readAgain: @escaping () throws -> Configuration,
    _ rules: RuleKeeper, _ dataPlane: DataPlane, _ group: UpstreamGroup?,
    _ exemptions: [[IPAddress]], _ supervisor: Supervisor, log: Logger
  ) throws(Errno) {
    self.configuration = configuration
    self.readAgain = readAgain
    self.dataPlane = dataPlane
    self.rules = rules
    self.supervisor = supervisor
    self.log = log
    let timeout = Timeouts(configuration).connect
    let mark = rules.policy.numbers.marks.own.value
    self.group = group
    self.exemptions = exemptions
    guard let carrier = dataPlane.group else {
      preconditionFailure("a run has somewhere to send what it captures")
    }
    questions = UpstreamQuestions(carrier, configuration, mark: mark, log: log)
    if let group, !group.isPlural,
      configuration.onUpstreamDown == .open || configuration.probing.isWanted
    {
      monitor = try UpstreamMonitor(
        group.members[0], HealthChecks(configuration.probing), mark: mark, timeout: timeout)
    } else {
      monitor = nil
    }
    for descriptor in rules.descriptors {
      try supervisor.watch(descriptor) { [rules] in rules.handleChanges() }
    }
    for (member, upstream) in (group?.members ?? []).enumerated() {
      let ability = try AbilityMonitor(upstream, mark: mark, timeout: timeout)
      abilities.append(ability)
      try supervisor.watch(ability.wakeDescriptor) { [weak self] in self?.handleAbilities() }
      let address = try AddressMonitor(
        configuration.upstreams.members[member], upstream, mark: mark, timeout: timeout)
      addresses.append(address)
      if let address {
        try supervisor.watch(address.wakeDescriptor) { [weak self] in
          self?.handleAddress(of: member)
        }
      }
    }
    if let monitor {
      try supervisor.watch(monitor.wakeDescriptor) { [weak self] in self?.handleAnswer() }
    }
    supervisor.onReload = { [weak self] in _ = self?.reload() }
    supervisor.onTick = { [weak self] in self?.handleTick() }
    supervisor.onEvent = { [weak self] event in self?.handle(event) }
    if configuration.uncaptured.ipv6 == nil {
      for (member, ability) in abilities.enumerated() {
        if let question = ability.questionForIPv6() { questions.add(question, of: member) }
      }
    }
    questions.ask()
    if monitor?.state == .down { handleDown() }
    followGroup()
  }

  /// Nothing changes by itself from here on, except what others take away.
  func retire() {
    supervisor.onReload = nil
    supervisor.onTick = nil
    supervisor.onEvent = { _ in }
  }

  // MARK: Settings

  /// Reads the settings and lists again. An error in them changes nothing.
  func reload() -> ReloadOutcome {
    let datagramMembers = group?.datagramMembers
    do {
      let former = configuration
      var adopted = former
      let remaining = adopted.adopt(try readAgain())
      let flowRules = try Policy(adopted)
      if let group { group.datagramMembers = flowRules?.datagramMembers ?? group.standard }
      let policy = try policy(of: adopted)
      try rules.change { $0 = policy }
      dataPlane.adopt(Timeouts(adopted), HalfClose(adopted.halfClose))
      dataPlane.adopt(flowRules)
      configuration = adopted
      log.notice("read the settings and lists again", metadata: ["event": "reloaded"])
      if !remaining.isEmpty {
        let names = remaining.joined(separator: ", ")
        log.warning(
          "these take effect when the run is started anew: \(names)",
          metadata: ["event": "needs_restart", "settings": .string(names)])
      }
      return ReloadOutcome(adopted: adopted.differences(from: former), restart: remaining)
    } catch {
      if let datagramMembers { group?.datagramMembers = datagramMembers }
      let reason = (error as? CommandFailure)?.message ?? "\(error)"
      log.error(
        "cannot reload, going on as before: \(reason)", metadata: ["event": "not_reloaded"])
      return ReloadOutcome(problem: reason)
    }
  }

  /// The policy of settings, which gives way to nobody anew, with what has been found out of the upstream.
  private func policy(of configuration: Configuration) throws(CommandFailure) -> RedirectPolicy {
    let present = rules.policy
    var scope = try Scope(configuration, upstreams: present.upstreams)
    scope.policy.numbers = present.numbers
    scope.policy.services = present.services
    scope.policy.phase = present.phase
    guard scope.policy.gateway?.capture == present.gateway?.capture else {
      throw CommandFailure(
        "the bridge among the interfaces takes another way to capture: start the run anew", .usage)
    }
    if group?.datagramAbility == .refuses { scope.policy.refuseDatagrams() }
    if configuration.uncaptured.ipv6 == nil, group?.carriesIPv6 == false {
      scope.policy.uncaptured.ipv6 = .reject
    }
    return scope.policy
  }

  // MARK: Time

  private func handleTick() {
    rules.tellSettings()
    renewControlGroups()
    monitor?.handleTime(now: .now())
    for ability in abilities { ability.handleTime(now: .now()) }
    questions.handleTime(now: .now()) { group?.isOut($0) == true }
    // No flow goes to one that is out, so that none would tell that it has moved.
    for member in addresses.indices
    where group?.isOut(member) == true || group?.members[member].place == .nowhere {
      addresses[member]?.handleFailure(.connectFailed, known: exemptions[member])
    }
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
    case .down: handleDown()
    case .up: handleUp()
    case nil: break
    }
  }

  private func handleDown() {
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

  private func handleUp() {
    // The server may be another one.
    if monitor != nil { questions.handleReturn(of: 0) }
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
  private func handleAddress(of member: Int) {
    guard let answer = addresses[member]?.handleAnswer() else { return }
    exemptions[member] = answer.addresses
    attempt("exempt the upstream's new addresses") { () throws(NetfilterError) in
      try rules.change { $0.upstreams = Array(exemptions.joined()) }
    }
    group?.members[member].move(to: answer.place)
    // It has let us in there.
    group?.bringBack(member)
    questions.handleReturn(of: member)
    let url = configuration.upstreams.members[member].first
    log.notice(
      "\(answer.place.name(in: url)): new connections go there",
      metadata: ["event": "upstream_moved", "place": .string("\(answer.place)")])
  }

  private func handle(_ event: Event) {
    switch event {
    case .failures(let failure, _, _, let part):
      monitor?.handleFailure(failure)
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
    guard addresses.indices.contains(member) else { return }
    addresses[member]?.handleFailure(failure, known: exemptions[member])
  }

  /// Nothing is captured while no member of the group lives, where the user wants that.
  private func followGroup() {
    guard let group, group.isPlural, configuration.onUpstreamDown == .open else { return }
    let isDown = group.alive.isEmpty
    guard isDown != (rules.policy.phase == .suspended) else { return }
    if isDown { handleDown() } else { handleUp() }
  }

  private func handleAbilities() {
    for ability in abilities.flatMap({ $0.takeAll() }) {
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
    var refused = rules.policy
    refused.refuseDatagrams()
    guard refused != rules.policy else { return }
    attempt("reject UDP") { () throws(NetfilterError) in
      try rules.change { $0.refuseDatagrams() }
    }
    log.tell(refusal, configuration)
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
