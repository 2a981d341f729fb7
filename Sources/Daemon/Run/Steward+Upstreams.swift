internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import NFTables
internal import Netfilter
internal import RedirectPolicy

// Who looks after which upstream, from its coming to its going.

extension Steward {
  /// For how long the main thread waits for the workers to say what is in use.
  private static let patience = Timeout.seconds(1)
  /// Between two looks whether retired upstreams are still in use, for which workers look at all flows.
  private static let releaseInterval = Timeout.seconds(2)

  private var mark: UInt32 { rules.policy.numbers.marks.own.value }
  private var timeout: Timeout { Timeouts(configuration).connect }

  /// Begins to find out what a listed upstream can do, and where it is.
  func beginCare(of slot: Int, in group: UpstreamGroup) throws(Errno) {
    guard let chain = register.roster.chain(in: slot) else {
      preconditionFailure("a listed upstream without a name")
    }
    let upstream = group.members[slot]
    let ability = try AbilityMonitor(upstream, mark: mark, timeout: timeout)
    try supervisor.watch(ability.wakeDescriptor) { [weak self] in self?.handleAbilities() }
    abilities[slot] = ability
    if let address = try AddressMonitor(chain, upstream, mark: mark, timeout: timeout) {
      try supervisor.watch(address.wakeDescriptor) { [weak self] in
        self?.handleAddress(of: slot)
      }
      addresses[slot] = address
    }
    questions.add(upstream, chain, in: slot, configuration)
    if configuration.uncaptured.ipv6 == nil, let question = ability.questionForIPv6() {
      questions.add(question, of: slot)
    }
    questions.ask(slot)
  }

  /// An upstream is not listed any more, and its slot may be another's.
  func endCare(of slot: Int) {
    if let ability = abilities.removeValue(forKey: slot) {
      supervisor.unwatch(ability.wakeDescriptor)
    }
    if let address = addresses.removeValue(forKey: slot) {
      supervisor.unwatch(address.wakeDescriptor)
    }
    questions.remove(slot)
  }

  /// Watches whether the only upstream lives, where somebody wants to know; a group knows by itself.
  func beginMonitoring(_ group: UpstreamGroup, isDown: Bool) throws(Errno) {
    guard !group.isPlural,
      configuration.onUpstreamDown == .open || configuration.probing.isWanted
    else { return }
    let monitor = try UpstreamMonitor(
      group.members[group.order[0]], isDown: isDown, HealthChecks(configuration.probing),
      mark: mark, timeout: timeout)
    try supervisor.watch(monitor.wakeDescriptor) { [weak self] in self?.handleAnswer() }
    self.monitor = monitor
  }

  /// - Parameter group: whose only upstream it was that was watched.
  func endMonitoring(_ group: UpstreamGroup) {
    guard let monitor else { return }
    supervisor.unwatch(monitor.wakeDescriptor)
    group.members[group.order[0]].health = .unknown
    self.monitor = nil
  }

  // MARK: Those that are retired

  /// The rules forget what no flow goes through any more.
  func releaseRetired(now: Instant) {
    guard underWay == nil, nextRelease <= now else { return }
    nextRelease = now + Self.releaseInterval
    var roster = register.roster
    guard freeUnused(&roster) else { return }
    attempt("forget the addresses of former upstreams") { () throws(NetfilterError) in
      try rules.change { $0.upstreams = roster.exemptions }
      register.roster = roster
    }
  }

  /// Frees the slots of retired upstreams that nothing goes through; false if there are none.
  func freeUnused(_ roster: inout UpstreamRoster) -> Bool {
    let retired = roster.retired
    guard !retired.isEmpty, let used = membersInUse else { return false }
    let unused = retired.subtracting(used)
    roster.free(unused)
    return !unused.isEmpty
  }

  /// Nil if a worker does not say.
  private var membersInUse: MemberSet? {
    let deadline = Instant.now() + Self.patience
    guard var used = dataPlane.membersInUse(until: deadline) else { return nil }
    for program in programs?.programs ?? [] {
      guard let answer = program.inquire({ $0.membersInUse(until: deadline) }) else { continue }
      guard let members = answer else { return nil }
      used.formUnion(members)
    }
    return used
  }
}
