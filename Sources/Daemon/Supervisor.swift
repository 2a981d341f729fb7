internal import DataPlane
internal import LinuxIO

/// The main thread: signals and the data plane's events, until it is time to end.
final class Supervisor {
  private enum Source: UInt64 { case signals, events }

  private let signals: SignalReader
  private let queue: Mailbox<Event>
  private let epoll: Epoll
  private var reporter: Reporter

  /// Must come before any thread is started: they inherit the blocked signals.
  init(reporter: Reporter) throws(Errno) {
    self.reporter = reporter
    let signals = try SignalReader()
    let queue = try Mailbox<Event>()
    let epoll = try Epoll(capacity: 8)
    try epoll.add(signals.rawValue, .readable, token: Source.signals.rawValue)
    try epoll.add(queue.wakeDescriptor, .readable, token: Source.events.rawValue)
    self.signals = signals
    self.queue = queue
    self.epoll = epoll
  }

  /// For the data plane, from any thread.
  var post: @Sendable (Event) -> Void {
    { [queue] event in queue.post(event) }
  }

  /// Reports what happens until SIGINT, SIGTERM or, when the terminal goes, SIGHUP.
  func waitForEnd(of dataPlane: DataPlane) {
    wait(for: dataPlane, until: nil) { false }
  }

  /// Reports what happens until no session is left, `timeout` has passed, or such a signal comes.
  func waitForDrain(of dataPlane: DataPlane, timeout: Timeout) {
    wait(for: dataPlane, until: .now() + timeout) { dataPlane.snapshot().isIdle }
  }

  func summarise(_ dataPlane: DataPlane) { reporter.summary(dataPlane.snapshot()) }

  private func wait(for dataPlane: DataPlane, until deadline: Instant?, isOver: () -> Bool) {
    while !isOver() {
      var milliseconds: Int32 = -1
      if let deadline {
        let left = deadline.milliseconds(since: .now())
        if left == 0 { return }
        milliseconds = Int32(clamping: left)
      }
      _ = epoll.wait(milliseconds: milliseconds)
      for event in queue.takeAll() { reporter.report(event) }
      while let signal = signals.next() {
        switch signal {
        case .hangUp, .interrupt, .terminate: return
        case .userDefined1: reporter.status(dataPlane.snapshot())
        }
      }
    }
  }
}
