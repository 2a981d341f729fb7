internal import Configuration
internal import DataPlane
internal import Glibc
internal import LinuxIO
internal import RedirectPolicy
internal import SOCKS
internal import Synchronization

/// Answers what a run has to say of itself, on any thread.
final class StatusBoard: Sendable {
  private let register: UpstreamRegister
  private let dataPlane: DataPlane
  private let rules: RuleRecord
  private let start = Instant.now()
  /// The same in seconds since 1970.
  private let date = time(nil)
  private let meter: Mutex<RateMeter>

  init(_ register: UpstreamRegister, _ dataPlane: DataPlane, _ rules: RuleRecord) {
    self.register = register
    self.dataPlane = dataPlane
    self.rules = rules
    meter = Mutex(RateMeter(start: start))
  }

  /// Is called every now and then, so that there is something that rates can be measured from.
  func handleTime(now: Instant) {
    guard meter.withLock({ $0.isDue(at: now) }) else { return }
    let totals = RateMeter.Totals(dataPlane.snapshot())
    meter.withLock { $0.note(totals, at: now) }
  }

  /// - Parameter limits: those of who asks.
  func status(_ limits: [RunStatus.Limit]) -> RunStatus {
    let snapshot = dataPlane.snapshot()
    let now = Instant.now()
    let rules = rules.state
    let rates = meter.withLock { $0.rates(of: RateMeter.Totals(snapshot), at: now) }
    let roster = register.roster
    return RunStatus(
      version: Release.version, process: ThisProcess.identifier,
      uptime: now.milliseconds(since: start) / 1000, scope: rules.scope,
      balance: roster.selection.isPlural ? roster.selection.balance.rawValue : nil,
      upstreams: upstreams(roster, now: now), rules: RunStatus.Rules(rules),
      sessions: RunStatus.Sessions(
        live: snapshot.liveSessions, opened: snapshot[.sessionsOpened],
        failed: snapshot[.sessionsFailed], retried: snapshot[.handshakesRetried]),
      associations: RunStatus.Associations(
        live: snapshot.liveAssociations, opened: snapshot[.associationsOpened]),
      bytes: RunStatus.Traffic(
        sent: snapshot[.bytesUpstream], received: snapshot[.bytesDownstream]),
      datagrams: RunStatus.Traffic(
        sent: snapshot[.datagramsUpstream], received: snapshot[.datagramsDownstream]),
      queries: RunStatus.Queries(
        carried: snapshot[.queriesCarried], answered: snapshot[.queriesAnswered],
        truncated: snapshot[.queriesTruncated], failed: snapshot[.queriesFailed]),
      rates: rates, pauses: snapshot[.acceptPauses],
      failures: Self.counts(Failure.allCases.map { ($0.name, snapshot[$0]) }),
      drops: Self.counts(DatagramDrop.allCases.map { ($0.name, snapshot[$0]) }),
      limits: dataPlane.limits(snapshot) + limits)
  }

  /// What metrics are made of.
  /// - Parameter limits: as of `status`.
  func reading(_ limits: [RunStatus.Limit]) -> MetricsReading {
    let roster = register.roster
    return MetricsReading(
      of: dataPlane, since: date, limits,
      MetricsReading.Capture(
        upstreams: upstreams(roster, now: .now()), members: roster.order, rules: rules.state))
  }

  /// Those of the settings.
  private func upstreams(_ roster: UpstreamRoster, now: Instant) -> [RunStatus.Upstream] {
    guard let group = dataPlane.group else {
      preconditionFailure("a run has somewhere to send what it captures")
    }
    let selection = roster.selection
    return roster.order.enumerated().map { index, slot in
      // The data plane has it before the roster does.
      let member = group.members[slot]
      return RunStatus.Upstream(
        name: selection.names[index], url: "\(selection.members[index])",
        health: health(
          of: slot, group, isThisProcess: selection.members[index].first.isThisProcess),
        ipv6: member.carriesIPv6, datagrams: member.datagramAbility.word,
        pipelined: member.isPipelined,
        probe: member.lastProbe.map { RunStatus.Probe($0, now: now) })
    }
  }

  private func health(
    of slot: Int, _ group: UpstreamGroup, isThisProcess: Bool
  ) -> RunStatus.Health {
    if isThisProcess { return .up }
    if group.isPlural { return group.isOut(slot) ? .down : .up }
    return switch group.members[slot].health {
    case .unknown: .unknown
    case .up: .up
    case .down: .down
    }
  }

  private static func counts(_ all: [(String, UInt64)]) -> [String: UInt64] {
    Dictionary(uniqueKeysWithValues: all.filter { $0.1 > 0 })
  }
}

extension DataPlane {
  /// Its bounds, as people are shown them.
  func limits(_ snapshot: Snapshot) -> [RunStatus.Limit] {
    bounds(snapshot).map { RunStatus.Limit(name: $0.name, used: $0.used, limit: $0.limit) }
  }
}

extension RunStatus.Probe {
  fileprivate init(_ record: HealthRecord, now: Instant) {
    self.init(
      age: now.milliseconds(since: record.time) / 1000, milliseconds: record.milliseconds,
      failure: record.failure?.name)
  }
}

extension RateMeter.Totals {
  init(_ snapshot: Snapshot) {
    self.init(
      sessions: snapshot[.sessionsOpened], sent: snapshot[.bytesUpstream],
      received: snapshot[.bytesDownstream])
  }
}

extension RunStatus.Rules {
  init(_ state: RuleRecord.State) {
    let phase: Phase =
      switch state.phase {
      case .capturing: .capturing
      case .draining: .draining
      case .suspended: .suspended
      case nil: .absent
      }
    self.init(
      phase: phase, restored: state.restored, changed: state.changedSettings,
      trouble: state.trouble)
  }
}
