internal import LinuxIO

/// The thread that looks after the members of a group: asks them by `HealthSchedule`, each on a thread of
/// its own since asking blocks, and tells who dies and returns.
final class GroupMonitor: Sendable {
  /// Between two questions to a member that lives.
  private static let interval = Timeout.seconds(30)
  /// The same where the answers decide who is fastest.
  private static let measuringInterval = Timeout.seconds(10)

  private let group: UpstreamGroup
  private let notices: Mailbox<UpstreamGroup.Notice>
  private let checks: HealthChecks
  private let question: AdmissionQuestion
  private let report: @Sendable (Event) -> Void

  /// Nil where there is but one.
  /// - Parameter timeout: of questions for which the checks have none.
  init?(
    _ group: UpstreamGroup, _ checks: HealthChecks, mark: UInt32?, timeout: Timeout,
    report: @escaping @Sendable (Event) -> Void
  ) {
    guard let notices = group.notices else { return nil }
    self.group = group
    self.notices = notices
    self.checks = checks
    question = AdmissionQuestion(
      target: checks.target, mark: mark, timeout: checks.timeout ?? timeout)
    self.report = report
  }

  func start() throws(Errno) -> Thread {
    let epoll = try Waiting(notices.wakeDescriptor)
    return try Thread(name: "sluice-group") { [self] in run(epoll) }
  }

  func stop() { notices.post(.stop) }

  /// What the thread waits with.
  ///
  /// SAFETY: unchecked, since it is made on one thread and then used on its own thread only.
  private final class Waiting: @unchecked Sendable {
    let epoll: Epoll

    init(_ descriptor: Int32) throws(Errno) {
      epoll = try Epoll(capacity: 1)
      try epoll.add(descriptor, .readable, token: 0)
    }
  }

  private func run(_ waiting: Waiting) {
    let measures = group.balance == .fastest
    let usual = measures ? Self.measuringInterval : Self.interval
    var schedule = HealthSchedule(
      group.listed, interval: checks.interval(orUsual: usual),
      tolerance: checks.tolerance, now: .now(), chance: System.randomBytes(1)[0])
    var latencies = LatencyRanking(group.order)
    // Nobody has measured yet, nor asked for the target.
    if measures || checks.target != nil, checks.interval != .never {
      for member in group.order { schedule.doubt(member, now: .now()) }
    }
    while true {
      for member in schedule.takeDue(now: .now()) { ask(member) }
      let patience = schedule.nextQuestion.map { Int32(clamping: $0.milliseconds(since: .now())) }
      _ = waiting.epoll.wait(milliseconds: patience.map { min($0, .max - 1) + 1 } ?? -1)
      for notice in notices.takeAll() {
        if case .stop = notice { return }
        handle(notice, &schedule, &latencies)
      }
      if measures { group.ranking = latencies.ranking }
    }
  }

  private func handle(
    _ notice: UpstreamGroup.Notice, _ schedule: inout HealthSchedule,
    _ latencies: inout LatencyRanking
  ) {
    let now = Instant.now()
    let chance = System.randomBytes(1)[0]
    switch notice {
    case .takenOut(let member, let failure, let isTold):
      guard !schedule.isDown(member) else { return }
      schedule.takeOut(member, now: now, chance: chance)
      latencies.forget(member)
      if !isTold { report(.memberDown(member, failure, othersLive: othersLive(than: member))) }
    case .doubted(let member):
      group.clearDoubt(member)
      schedule.doubt(member, now: now)
    case .broughtBack(let member):
      guard schedule.isDown(member) else { return }
      schedule.bringBack(member, now: now, chance: chance)
      report(.memberUp(member))
    case .answered(let member, let failure, let milliseconds):
      let wasDown = schedule.isDown(member)
      schedule.handleAnswer(of: member, isUp: failure == nil, now: now, chance: chance)
      guard let failure else {
        latencies.note(Double(milliseconds), of: member)
        group.bringBack(member)
        if wasDown { report(.memberUp(member)) }
        return
      }
      // It may take more of them.
      guard schedule.isDown(member) else { return }
      latencies.forget(member)
      group.takeOut(member, after: failure)
      if !wasDown { report(.memberDown(member, failure, othersLive: othersLive(than: member))) }
    case .stop: return
    }
  }

  /// Whether flows of that member have another to go through.
  private func othersLive(than member: Int) -> Bool {
    !group.companions(of: member).intersection(group.alive).isEmpty
  }

  private func ask(_ member: Int) {
    let (upstream, notices, question) = (group.members[member], notices, question)
    do {
      try Thread(name: "sluice-monitor") {
        let begin = Instant.now()
        let failure = question.findFailure(of: upstream)
        notices.post(
          .answered(member, failure, milliseconds: Instant.now().milliseconds(since: begin)))
      }.detach()
    } catch {
      // Without a thread nothing is known of it.
      notices.post(
        .answered(member, group.alive.contains(member) ? nil : .connectFailed, milliseconds: 0))
    }
  }
}
