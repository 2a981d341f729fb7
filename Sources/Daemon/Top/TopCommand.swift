package import Configuration
internal import LinuxIO

/// `sluice top`: the flows of a run of this host on a whole screen, until somebody has seen enough.
package struct TopCommand {
  /// Between two looks.
  private static let interval = Timeout.seconds(1)

  private let configuration: ControlConfiguration
  private let filters: [String]
  private let isUnicode: Bool

  /// - Parameter locale: what the environment says of it: LC_ALL, LC_CTYPE or LANG.
  package init(
    _ configuration: ControlConfiguration, filters: [String], locale: String?
  ) throws(ConfigurationError) {
    for filter in filters { _ = try FlowFilter(filter) }
    self.configuration = configuration
    self.filters = filters
    let words = (locale ?? "").lowercased()
    isUnicode = words.contains("utf-8") || words.contains("utf8")
  }

  /// Blocks until a key or a signal ends it, or the run ends, which is a failure.
  package func run() throws(CommandFailure) {
    var client = try ControlClient(configuration.path)
    // Before the screen, which shall come back whatever signal comes.
    let signals = try startedUp { () throws(Errno) in try SignalReader<ScreenSignal>() }
    let epoll = try startedUp { () throws(Errno) in try Epoll(capacity: 4) }
    guard let screen = Screen.open() else {
      throw CommandFailure("top needs a terminal (for programs: sluice flows --json)", .usage)
    }
    try startedUp { () throws(Errno) in
      try epoll.add(signals.rawValue, .readable, token: 0)
      try epoll.add(screen.rawValue, .readable, token: 1)
    }
    try watch(&client, screen, signals, epoll)
  }

  private func watch(
    _ client: inout ControlClient, _ screen: borrowing Screen,
    _ signals: borrowing SignalReader<ScreenSignal>, _ epoll: borrowing Epoll
  ) throws(CommandFailure) {
    var state = TopState()
    var last = Instant.now()
    try look(&state, &client, since: &last)
    while true {
      let view = TopView(size: screen.size, isUnicode: isUnicode)
      screen.write(TopView.frame(view.lines(state)))
      let due = last + Self.interval
      let count = epoll.wait(milliseconds: Int32(clamping: due.milliseconds(since: .now())))
      for index in 0..<count where epoll.event(at: index).token == 1 {
        guard let bytes = screen.read() else { return }
        for key in Key.keys(in: bytes) {
          switch state.handle(key, page: view.page) {
          case .none: break
          case .quit: return
          case .list: try look(&state, &client, since: &last)
          case .kill(let flow):
            let ended = try KillCommand.end([flow], &client)
            state.noteEnd(of: flow, isDone: !ended.isEmpty)
            try look(&state, &client, since: &last)
          }
        }
      }
      while let arrival = signals.next() {
        switch arrival.signal {
        case .hangUp, .interrupt, .quit, .terminate: return
        // The size is asked for with each frame; in the background nothing could be seen of it.
        case .windowChanged, .terminalStop: break
        }
      }
      if due <= .now() { try look(&state, &client, since: &last) }
    }
  }

  /// Asks the run.
  private func look(
    _ state: inout TopState, _ client: inout ControlClient, since last: inout Instant
  ) throws(CommandFailure) {
    guard case .status(let status) = try client.ask(.status),
      case .flows(let list) = try client.ask(
        .flows(filters: filters, order: state.order.rawValue))
    else { throw client.misunderstood }
    let now = Instant.now()
    state.update(status, list, after: Double(now.milliseconds(since: last)) / 1000)
    last = now
  }
}
