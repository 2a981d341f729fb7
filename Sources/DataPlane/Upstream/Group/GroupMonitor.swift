internal import LinuxIO
internal import SOCKS

/// The thread that looks after the members of a group: asks them by `HealthSchedule`, each on a thread of
/// its own since asking blocks, and tells who dies and returns.
final class GroupMonitor: Sendable {
  /// Between two questions to a member that lives.
  private static let interval = Timeout.seconds(30)
  /// The same where the answers decide who is fastest.
  private static let measuringInterval = Timeout.seconds(10)

  private let group: UpstreamGroup
  private let notices: Mailbox<UpstreamGroup.Notice>
  private let mark: UInt32?
  private let timeout: Timeout
  private let report: @Sendable (Event) -> Void

  /// Nil where there is but one.
  init?(
    _ group: UpstreamGroup, mark: UInt32?, timeout: Timeout,
    report: @escaping @Sendable (Event) -> Void
  ) {
    guard let notices = group.notices else { return nil }
    self.group = group
    self.notices = notices
    self.mark = mark
    self.timeout = timeout
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
    var schedule = HealthSchedule(
      count: group.members.count, interval: measures ? Self.measuringInterval : Self.interval,
      now: .now())
    var latencies = LatencyRanking(count: group.members.count)
    if measures { for member in group.members.indices { schedule.doubt(member, now: .now()) } }
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
      if !isTold { report(.memberDown(member, failure, othersLive: !group.alive.isEmpty)) }
    case .doubted(let member):
      group.clearDoubt(member)
      schedule.doubt(member, now: now)
    case .broughtBack(let member):
      guard schedule.isDown(member) else { return }
      schedule.bringBack(member, now: now)
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
      latencies.forget(member)
      group.takeOut(member, after: failure)
      if !wasDown { report(.memberDown(member, failure, othersLive: !group.alive.isEmpty)) }
    case .stop: return
    }
  }

  private func ask(_ member: Int) {
    let (upstream, notices, mark, timeout) = (group.members[member], notices, mark, timeout)
    let question: @Sendable () -> Void = {
      let begin = Instant.now()
      let outcome = UpstreamProbe.run(upstream, mode: .stepwise, mark: mark, timeout: timeout)
      notices.post(
        .answered(
          member, outcome.failure, milliseconds: Instant.now().milliseconds(since: begin)))
    }
    do {
      try Thread(name: "sluice-monitor", question).detach()
    } catch {
      // Without a thread nothing is known of it.
      notices.post(
        .answered(member, group.alive.contains(member) ? nil : .connectFailed, milliseconds: 0))
    }
  }
}

extension UpstreamProbe.Outcome {
  /// Why flows do not get through, if they do not.
  package var failure: Failure? {
    switch self {
    case .replied, .failed(.closed(.reply), _): nil
    case .cannotConnect(let error): Failure(connecting: error)
    case .failed(_, isTimeout: true), .stuck(_, isTimeout: true, _): .handshakeTimeout
    case .failed(let failure, isTimeout: false): Failure(failure)
    case .stuck: .hopRefused
    }
  }
}
