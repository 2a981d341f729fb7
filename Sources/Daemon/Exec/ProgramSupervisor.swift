internal import DataPlane
internal import LinuxIO

/// The main thread beside a confined program: passes on the signals that are meant for it, follows it
/// when it stops, and waits until it and all that it has started have ended.
final class ProgramSupervisor {
  /// How long processes that outlive the program may take to end before that is told.
  private static let tellsLeftBehindAfter = Timeout.seconds(2)

  private let program: Int32
  private let signals: SignalReader<ProgramSignal>
  private let queue: Mailbox<Event>
  private let epoll: Epoll
  private var reporter: Reporter
  private var watched: (descriptor: Int32, handle: () -> Void)?
  /// How the program itself has ended.
  private var ending: ChildProcess.Ending?
  private var isChildless = false
  private var isProgramStopped = false
  /// This process has stopped because the program has.
  private var hasFollowed = false
  /// The process group that had the terminal then, if it is the program's own.
  private var terminalHolder: Int32?
  /// Whoever started this process wants it to end, and the program has ended already.
  private var isToldToEnd = false

  /// Must come before any thread is started: they inherit the blocked signals, and share the heap.
  init(of program: Int32, reporter: Reporter) throws(Errno) {
    self.program = program
    self.reporter = reporter
    System.shareHeap()
    signals = try SignalReader()
    queue = try Mailbox()
    epoll = try Epoll(capacity: 4)
    try epoll.add(signals.rawValue, .readable, token: Source.ours.rawValue)
    try epoll.add(queue.wakeDescriptor, .readable, token: Source.ours.rawValue)
  }

  private enum Source: UInt64 { case ours, watched }

  /// For the data plane, from any thread.
  var post: @Sendable (Event) -> Void {
    { [queue] event in queue.post(event) }
  }

  /// Calls `handle` when the descriptor becomes readable for the first time, while `wait` waits.
  func watchOnce(_ descriptor: Int32, _ handle: @escaping () -> Void) throws(Errno) {
    try epoll.add(descriptor, .readable, token: Source.watched.rawValue)
    watched = (descriptor, handle)
  }

  /// Waits for the end of the program and of the processes that it left, for these no longer than
  /// `linger`; nil: as long as it takes.
  /// - Parameter tell: is called once if they take long.
  func wait(linger: Timeout?, tell: () -> Void) -> ChildProcess.Ending {
    var deadline: Instant?
    var telling: Instant?
    var hasTold = false
    System.giveBackStartUpCode()
    // What happened before signals were ours.
    handleChildren()
    while true {
      if let ending {
        let now = Instant.now()
        if deadline == nil, let linger { deadline = now + linger }
        if telling == nil, !hasTold { telling = now + Self.tellsLeftBehindAfter }
        if isChildless || isToldToEnd || deadline.map({ $0 <= now }) == true { return ending }
        if let due = telling, due <= now {
          tell()
          (telling, hasTold) = (nil, true)
        }
      }
      for index in 0..<epoll.wait(milliseconds: patience(deadline, telling))
      where epoll.event(at: index).token == Source.watched.rawValue {
        handleWatched()
      }
      for event in queue.takeAll() { reporter.report(event) }
      while let arrival = signals.next() { handle(arrival) }
    }
  }

  func summarise(_ dataPlane: DataPlane) { reporter.summary(dataPlane.snapshot()) }

  private func patience(_ deadline: Instant?, _ telling: Instant?) -> Int32 {
    let due = [deadline, telling].compactMap { $0 }.min()
    return due.map { Int32(clamping: $0.milliseconds(since: .now())) } ?? -1
  }

  private func handleWatched() {
    guard let (descriptor, handle) = watched else { return }
    watched = nil
    try? epoll.remove(descriptor)
    handle()
  }

  private func handle(_ arrival: SignalReader<ProgramSignal>.Arrival) {
    switch arrival.signal {
    case .childChanged:
      handleChildren()
    case .continued:
      handleContinued()
    case .hangUp, .interrupt, .quit, .terminate:
      // The program may have ended just before, which nobody has looked at yet.
      handleChildren()
      if ending != nil { isToldToEnd = true } else { pass(arrival) }
    case .userDefined1, .userDefined2, .alarm, .terminalStop, .windowChanged:
      pass(arrival)
    case .backgroundRead, .backgroundWrite:
      break
    }
  }

  /// What comes from the terminal reaches the program by itself.
  private func pass(_ arrival: SignalReader<ProgramSignal>.Arrival) {
    if arrival.isSent, ending == nil { ChildProcess.signal(program, arrival.signal.rawValue) }
  }

  /// A shell continues the process group of this process, to which the program belongs unless it is a
  /// shell itself; others may mean this process alone.
  private func handleContinued() {
    handleChildren()
    guard ending == nil else { return }
    if let group = terminalHolder, ControllingTerminal.foregroundGroup == ThisProcess.group {
      ControllingTerminal.give(to: group)
    }
    if isProgramStopped || !hasFollowed {
      let isLeader = ChildProcess.group(of: program) == program
      ChildProcess.signal(isLeader ? -program : program, ProgramSignal.continued.rawValue)
    }
    (hasFollowed, terminalHolder) = (false, nil)
  }

  private func handleChildren() {
    while true {
      switch ChildProcess.next() {
      case .childless:
        isChildless = true
        return
      case .nothing:
        return
      case .changed(program, .ended(let ending)):
        self.ending = ending
      case .changed(program, .stopped(let signal)):
        isProgramStopped = true
        follow(signal)
      case .changed(program, .continued):
        isProgramStopped = false
      case .changed: break
      }
    }
  }

  /// Stops this process, too, so that its shell sees its job stopped. A program that somebody stops in
  /// another way than by job control may be continued without this process, which therefore goes on.
  private func follow(_ signal: Int32) {
    let isJobControl = [.terminalStop, .backgroundRead, .backgroundWrite]
      .contains(ProgramSignal(rawValue: signal))
    let group = ChildProcess.group(of: program)
    let isInForeground = group != nil && ControllingTerminal.foregroundGroup == group
    guard isJobControl || isInForeground else { return }
    terminalHolder = isInForeground && group != ThisProcess.group ? group : nil
    hasFollowed = true
    ThisProcess.stop(signal)
  }
}
