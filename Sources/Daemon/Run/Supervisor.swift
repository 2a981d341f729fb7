internal import DataPlane
internal import LinuxIO

/// The main thread: signals, the data plane's events and whatever else is registered, until it is time
/// to end.
final class Supervisor {
  /// What the main thread does at most this long after it was due.
  private static let tick = Timeout.seconds(2)

  private let signals: SignalReader<Signal>
  private let queue: Mailbox<Event>
  private let epoll: Epoll
  private let terminal = ControllingTerminal()
  private var reporter: Reporter
  /// By token, which is never used again.
  private var handlers: [UInt64: () -> Void] = [:]
  private var tokens: [Int32: UInt64] = [:]
  private var nextToken: UInt64 = 0

  /// Whether the run can be continued by another process, which SIGUSR2 then asks for.
  var canHandOver = false
  /// It was asked for.
  private(set) var isHandingOver = false

  /// Is called for each event, before it is reported.
  var onEvent: (Event) -> Void = { _ in }
  /// Is called when the settings are to be read again. Without it SIGHUP ends the run.
  var onReload: (() -> Void)?
  /// Is called about every `tick`. Without it the main thread sleeps until something happens.
  var onTick: (() -> Void)?

  /// What is done regularly as long as the main thread comes around; nil: nothing.
  private var heartbeat: (interval: Timeout, next: Instant, beat: () -> Void)?

  /// Has something more done about every `tick`.
  func addTick(_ handle: @escaping () -> Void) {
    let others = onTick
    onTick = {
      others?()
      handle()
    }
  }

  /// Must come before any thread is started: they inherit the blocked signals, and share the heap.
  init(reporter: Reporter) throws(Errno) {
    self.reporter = reporter
    System.shareHeap()
    signals = try SignalReader()
    queue = try Mailbox<Event>()
    epoll = try Epoll(capacity: 8)
    try watch(signals.rawValue) {}
    try watch(queue.wakeDescriptor) {}
  }

  /// For the data plane, from any thread.
  var post: @Sendable (Event) -> Void {
    { [queue] event in queue.post(event) }
  }

  /// Calls `handle` on the main thread whenever the descriptor is readable.
  func watch(_ descriptor: Int32, _ handle: @escaping () -> Void) throws(Errno) {
    try epoll.add(descriptor, .readable, token: nextToken)
    handlers[nextToken] = handle
    tokens[descriptor] = nextToken
    nextToken += 1
  }

  /// Ends that; to be called before the descriptor is closed.
  func unwatch(_ descriptor: Int32) {
    guard let token = tokens.removeValue(forKey: descriptor) else { return }
    handlers[token] = nil
    // It is there, since nobody else takes it away.
    try? epoll.remove(descriptor)
  }

  /// Tells a service manager regularly that the main thread comes around.
  func serve(_ manager: ServiceManager) {
    if let interval = manager.heartbeat {
      heartbeat = (interval, .now(), { manager.tellAlive() })
    }
  }

  /// Reports what happens until SIGINT, SIGTERM, SIGUSR2 where that means something, or, when the terminal goes, SIGHUP.
  func waitForEnd(of dataPlane: DataPlane) {
    waitForEnd(of: dataPlane) { false }
  }

  /// The same, or until `isOver`, which is asked after everything that happens.
  func waitForEnd(of dataPlane: DataPlane, or isOver: () -> Bool) {
    System.giveBackStartUpCode()
    wait(for: dataPlane, until: nil, isOver: isOver)
  }

  /// Reports what happens until nothing is open any more, `timeout` has passed, or such a signal comes.
  func waitForDrain(of dataPlane: DataPlane, timeout: Timeout, isIdle: () -> Bool) {
    wait(for: dataPlane, until: .now() + timeout, isOver: isIdle)
  }

  func summarise(_ dataPlane: DataPlane) { reporter.summary(dataPlane.snapshot()) }

  private func wait(for dataPlane: DataPlane, until deadline: Instant?, isOver: () -> Bool) {
    while !isOver() {
      if let deadline, deadline <= .now() { return }
      let count = epoll.wait(milliseconds: patience(until: deadline))
      showLife()
      for index in 0..<count { handlers[epoll.event(at: index).token]?() }
      onTick?()
      for event in queue.takeAll() {
        onEvent(event)
        reporter.report(event)
      }
      while let arrival = signals.next() {
        switch arrival.signal {
        case .interrupt, .terminate: return
        case .userDefined2:
          guard canHandOver else { continue }
          isHandingOver = true
          return
        case .hangUp:
          guard let onReload, !terminal.isGone else { return }
          onReload()
        case .userDefined1: reporter.status(dataPlane.snapshot())
        }
      }
    }
  }

  private func showLife() {
    guard let (interval, next, beat) = heartbeat, next <= .now() else { return }
    heartbeat?.next = .now() + interval
    beat()
  }

  /// Milliseconds to wait for something to happen, negative for ever.
  private func patience(until deadline: Instant?) -> Int32 {
    let tick = onTick == nil ? nil : Int32(Self.tick.milliseconds)
    let ends = [deadline, heartbeat?.next].compactMap { $0 }
    let waits = ends.map { Int32(clamping: $0.milliseconds(since: .now())) }
    return ([tick].compactMap { $0 } + waits).min() ?? -1
  }
}
