internal import LinuxIO

/// Somebody's word that new rules may stay. It comes by a line at the terminal, or by
/// `sluice rules confirm` in the same network namespace from root or the same user; all else, and
/// silence, means that they may not.
struct Confirmation: ~Copyable {
  enum Outcome: Hashable {
    case confirmed
    /// The time is over.
    case silence
    /// A signal, another line, or the end of input.
    case refused
  }

  /// Of the socket that `confirm` finds this by.
  private static let name = "sluice-rules-confirm"
  /// What is answered to who has confirmed.
  private static let answer: UInt8 = 1
  /// For the answer of a process that only waits for this.
  private static let patience = Timeout.seconds(10)

  private enum Source: UInt64 { case signals, listener, terminal }

  private let signals: SignalReader<Signal>
  private let listener: Descriptor
  private let terminal: Terminal?
  private let epoll: Epoll

  /// From here on signals wait for `wait`. EADDRINUSE if another process waits already.
  init() throws(Errno) {
    let listener = try LocalSocket.listen(on: Self.name)
    let signals = try SignalReader<Signal>()
    let terminal = Terminal()
    let epoll = try Epoll(capacity: 4)
    try epoll.add(signals.rawValue, .readable, token: Source.signals.rawValue)
    try epoll.add(listener.rawValue, .readable, token: Source.listener.rawValue)
    if let terminal {
      try epoll.add(terminal.rawValue, .readable, token: Source.terminal.rawValue)
    }
    self.listener = listener
    self.signals = signals
    self.terminal = terminal
    self.epoll = epoll
  }

  /// Whether a line would be read.
  var hasTerminal: Bool { terminal != nil }

  func wait(_ timeout: Timeout) -> Outcome {
    let deadline = Instant.now() + timeout
    while true {
      let left = deadline.milliseconds(since: .now())
      if left == 0 { return .silence }
      for index in 0..<epoll.wait(milliseconds: Int32(clamping: left)) {
        if let outcome = handle(epoll.event(at: index)) { return outcome }
      }
    }
  }

  /// Confirms what another process of this network namespace waits for.
  /// - Returns: whether there was one that has heard it.
  static func give() throws(Errno) -> Bool {
    let socket = try LocalSocket.connect(to: name)
    guard LocalSocket.isTrusted(socket) else { return false }
    return LocalSocket.receive(from: socket, timeout: patience) == answer
  }

  private func handle(_ event: (token: UInt64, readiness: Readiness)) -> Outcome? {
    switch Source(rawValue: event.token) {
    case .signals: handleSignals()
    case .listener: handleConnections()
    case .terminal: handleInput(event.readiness)
    case nil: nil
    }
  }

  private func handleSignals() -> Outcome? {
    while let arrival = signals.next() {
      switch arrival.signal {
      case .hangUp, .interrupt, .terminate: return .refused
      case .userDefined1, .userDefined2: continue
      }
    }
    return nil
  }

  private func handleConnections() -> Outcome? {
    while let socket = LocalSocket.accept(listener) {
      guard LocalSocket.isTrusted(socket) else { continue }
      // Who does not wait for the answer has not seen that the rules work.
      if (try? LocalSocket.send(Self.answer, to: socket)) != nil { return .confirmed }
    }
    return nil
  }

  private func handleInput(_ readiness: Readiness) -> Outcome? {
    guard let terminal else { return nil }
    switch terminal.read() {
    case .line("yes"), .line(""): return .confirmed
    case .line, .end: return .refused
    case .notOurs:
      if readiness.contains(.hangUp) { return .refused }
      try? epoll.remove(terminal.rawValue)
      return nil
    }
  }
}
