internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import Logging
internal import NFTables
internal import Netfilter
internal import RedirectPolicy

// Settings that are read again. An error in them changes nothing, and neither does an upstream that cannot
// be used; all that can be adopted takes effect together.

extension Steward {
  /// What is to be in force.
  struct Reload {
    let adopted: Configuration
    /// Settings that take a restart.
    let remaining: [String]
    /// Who waits for what comes of it.
    let callers: [(ReloadOutcome) -> Void]
  }

  /// Reads the settings and lists again; where they name other upstreams, these are asked first, and everything
  /// goes on meanwhile.
  /// - Parameter finish: is called when it is done, with what has come of it.
  func reload(_ finish: @escaping (ReloadOutcome) -> Void) {
    waiting.append(finish)
    if underWay == nil { beginReload() }
  }

  /// The upstreams that were asked have answered, or one cannot be used at all.
  func handleArrival() {
    guard let answer = reach.takeAnswer(), let reload = underWay else { return }
    underWay = nil
    complete(reload) { () throws(CommandFailure) in try answer.get() }
    if !waiting.isEmpty { beginReload() }
  }

  private func beginReload() {
    let callers = waiting
    waiting = []
    manager.tellReloading()
    do {
      var adopted = configuration
      let remaining = adopted.adopt(try readAgain())
      let reload = Reload(adopted: adopted, remaining: remaining, callers: callers)
      let newcomers = newcomers(adopted.upstreams)
      guard !newcomers.isEmpty else {
        complete(reload) { [] }
        return
      }
      try reach.begin(
        newcomers, timeout: Timeouts(adopted).connect, wantsDatagrams: dataPlane.capturesDatagrams)
      underWay = reload
    } catch {
      refuse(callers, error)
    }
  }

  /// Those that no new flow goes through so far.
  private func newcomers(_ upstreams: UpstreamSelection) -> [UpstreamChain] {
    guard group != nil else { return [] }
    let roster = register.roster
    return upstreams.members.filter { !roster.selection.members.contains($0) }
  }

  private func complete(
    _ reload: Reload, _ arrivals: () throws(CommandFailure) -> [UpstreamReach.Arrival]
  ) {
    do {
      let former = configuration
      let adopted = reload.adopted
      if let group, adopted.upstreams != former.upstreams {
        try change(group, adopted, try arrivals())
      } else {
        try changeRules(adopted)
      }
      dataPlane.adopt(Timeouts(adopted), HalfClose(adopted.halfClose))
      log.notice("read the settings and lists again", metadata: ["event": "reloaded"])
      if !reload.remaining.isEmpty {
        let names = reload.remaining.joined(separator: ", ")
        log.warning(
          "these take effect when the run is started anew: \(names)",
          metadata: ["event": "needs_restart", "settings": .string(names)])
      }
      finish(
        reload.callers,
        ReloadOutcome(adopted: adopted.differences(from: former), restart: reload.remaining))
    } catch {
      refuse(reload.callers, error)
    }
  }

  private func refuse(_ callers: [(ReloadOutcome) -> Void], _ error: any Error) {
    let reason = (error as? CommandFailure)?.message ?? "\(error)"
    log.error(
      "cannot reload, going on as before: \(reason)", metadata: ["event": "not_reloaded"])
    finish(callers, ReloadOutcome(problem: reason))
  }

  private func finish(_ callers: [(ReloadOutcome) -> Void], _ outcome: ReloadOutcome) {
    manager.tellReady(
      "capturing \(rules.record.state.scope), sending it through \(configuration.upstreams)")
    for caller in callers { caller(outcome) }
  }

  // MARK: The same upstreams

  private func changeRules(_ adopted: Configuration) throws {
    let flowRules = try Policy(adopted, register.roster)
    let datagramMembers = group?.datagramMembers
    if let group { group.datagramMembers = flowRules?.datagramMembers ?? group.standard }
    do {
      let policy = try policy(of: adopted, rules.policy.upstreams, group)
      try rules.change { $0 = policy }
    } catch {
      if let datagramMembers { group?.datagramMembers = datagramMembers }
      throw error
    }
    dataPlane.adopt(flowRules)
    configuration = adopted
  }

  /// The policy of settings, which gives way to nobody anew, with what has been found out of the upstreams.
  /// - Parameter exemptions: their addresses.
  private func policy(
    of configuration: Configuration, _ exemptions: [IPAddress], _ group: UpstreamGroup?
  ) throws(CommandFailure) -> RedirectPolicy {
    let present = rules.policy
    var scope = try Scope(configuration, upstreams: exemptions)
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

  // MARK: Other upstreams

  /// Has new flows go through the upstreams of other settings. The rules exempt these before any flow goes
  /// there, and the former ones as long as one does.
  private func change(
    _ former: UpstreamGroup, _ adopted: Configuration, _ arrivals: [UpstreamReach.Arrival]
  ) throws {
    var roster = register.roster
    let fresh = try takeSlots(in: &roster, for: adopted.upstreams, arrivals)
    let isOut = slotsOut(of: former, roster, arrivals)
    try check(arrivals, othersLive: roster.order.contains { !isOut.contains($0) })
    let group = try makeGroup(former, roster, arrivals, fresh)
    let flowRules = try Policy(adopted, roster)
    group.datagramMembers = flowRules?.datagramMembers ?? group.standard
    let formerRules = rules.policy
    let policy = try policy(of: adopted, roster.exemptions, group)
    try rules.change { $0 = policy }
    let moves = register.roster.moves(to: roster)
    let change = GroupChange(group, flowRules, moves: moves, fresh: fresh)
    do {
      // Before the monitor begins, so that it tells nobody what is told here.
      for slot in group.order where isOut.contains(slot) {
        group.takeOut(slot, after: .connectFailed, isTold: true)
      }
      try dataPlane.adopt(change)
    } catch {
      try? rules.change { $0 = formerRules }
      throw error
    }
    programs?.adopt(change.withoutRules)
    register.roster = roster
    self.group = group
    configuration = adopted
    tellUpstreams(arrivals, before: formerRules)
    renewCare(former, group, fresh, isOut)
  }

  private func takeSlots(
    in roster: inout UpstreamRoster, for upstreams: UpstreamSelection,
    _ arrivals: [UpstreamReach.Arrival]
  ) throws(CommandFailure) -> MemberSet {
    let addresses = Dictionary(arrivals.map { ($0.chain, $0.addresses) }) { first, _ in first }
    if let fresh = roster.adopt(upstreams, addresses: addresses) { return fresh }
    _ = freeUnused(&roster)
    if let fresh = roster.adopt(upstreams, addresses: addresses) { return fresh }
    throw CommandFailure(
      """
      flows still go through \(roster.retired.count) upstreams of former settings, and there is \
      room for \(MemberSet.maximumMembers) in all: try again when those have ended
      """, .unavailable)
  }

  /// The listed ones that do not let us in, as far as is known.
  private func slotsOut(
    of former: UpstreamGroup, _ roster: UpstreamRoster, _ arrivals: [UpstreamReach.Arrival]
  ) -> MemberSet {
    MemberSet(
      roster.order.filter { slot in
        if let arrival = arrivals.first(where: { $0.chain == roster.chain(in: slot) }) {
          return arrival.obstacle != nil
        }
        return former.isPlural ? former.isOut(slot) : former.members[slot].health == .down
      })
  }

  /// As at the start: one of several may be out, but not all that have been asked, unless others live.
  private func check(
    _ arrivals: [UpstreamReach.Arrival], othersLive: Bool
  ) throws(CommandFailure) {
    let obstacles = arrivals.compactMap(\.obstacle)
    guard let first = obstacles.first, !othersLive else { return }
    guard obstacles.count > 1 else { throw first }
    throw CommandFailure(
      "none of the upstreams lets us in: \(obstacles.map(\.message).joined(separator: "; "))",
      first.status)
  }

  private func makeGroup(
    _ former: UpstreamGroup, _ roster: UpstreamRoster, _ arrivals: [UpstreamReach.Arrival],
    _ fresh: MemberSet
  ) throws(CommandFailure) -> UpstreamGroup {
    var members = former.members
    for slot in roster.slots.indices {
      guard let arrival = arrivals.first(where: { $0.chain == roster.chain(in: slot) }) else {
        continue
      }
      if slot == members.count {
        members.append(arrival.upstream)
      } else if fresh.contains(slot) {
        members[slot] = arrival.upstream
      } else if arrival.obstacle == nil, members[slot].place != arrival.upstream.place {
        members[slot].move(to: arrival.upstream.place)
      }
    }
    return try startedUp { () throws(Errno) in
      try UpstreamGroup(
        slots: members, order: roster.order, Balance(roster.selection.balance), sets: roster.sets)
    }
  }

  private func tellUpstreams(
    _ arrivals: [UpstreamReach.Arrival], before formerRules: RedirectPolicy
  ) {
    log.notice(
      "new connections go through \(configuration.upstreams)",
      metadata: ["event": "upstreams", "upstream": .string("\(configuration.upstreams)")])
    let roster = register.roster
    for arrival in arrivals {
      guard let group, let obstacle = arrival.obstacle,
        let slot = roster.order.first(where: { roster.chain(in: $0) == arrival.chain })
      else { continue }
      log.tellOut(slot, obstacle, of: group)
    }
    guard formerRules.uncaptured.udp == nil, rules.policy.uncaptured.udp != nil,
      configuration.wantsDatagrams
    else { return }
    for arrival in arrivals {
      guard let refusal = arrival.refusal,
        let position = configuration.upstreams.members.firstIndex(of: arrival.chain)
      else { continue }
      log.tell(refusal.renumbered(position), configuration)
      return
    }
  }

  /// - Parameter isOut: those that are known not to answer.
  private func renewCare(
    _ former: UpstreamGroup, _ group: UpstreamGroup, _ fresh: MemberSet, _ isOut: MemberSet
  ) {
    endMonitoring(former)
    for slot in Array(abilities.keys) where !group.listed.contains(slot) || fresh.contains(slot) {
      endCare(of: slot)
    }
    do throws(Errno) {
      for slot in group.order where abilities[slot] == nil { try beginCare(of: slot, in: group) }
      try beginMonitoring(group, isDown: isOut.contains(group.order[0]))
    } catch {
      log.error(
        "cannot watch all upstreams from now on: \(error)", metadata: ["event": "unwatched"])
    }
    if group.isPlural {
      followGroup()
    } else if monitor?.state == .down {
      handleDown()
    } else if rules.policy.phase == .suspended {
      handleUp()
    }
  }
}
