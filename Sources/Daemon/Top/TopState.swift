/// What `sluice top` shows, and what keys do to that.
struct TopState: Hashable {
  enum Action: Hashable {
    case none
    case quit
    /// Ask for the flows again, in the new order.
    case list
    /// End this flow, which somebody has confirmed.
    case kill(String)
  }

  /// A flow, and what it carries per second.
  struct Line: Hashable {
    var flow: FlowStatus
    var rate: Double
  }

  /// Of the run; nil before the first look.
  private(set) var status: RunStatus?
  private(set) var lines: [Line] = []
  private(set) var omitted = 0
  private(set) var order = FlowOrder.bytes
  /// Bytes per second, the newest last.
  private(set) var sent = RateHistory()
  private(set) var received = RateHistory()
  /// Which line is selected; nothing where there is none.
  private(set) var selected = 0
  /// The flow that is to be ended, if that is confirmed.
  private(set) var question: FlowStatus?
  /// What has come of the last thing that was asked for.
  private(set) var note = ""

  /// Takes what a run says of itself.
  /// - Parameter seconds: since the last time.
  mutating func update(_ status: RunStatus, _ list: FlowList, after seconds: Double) {
    if let former = self.status {
      sent.add(status.bytes.sent, since: former.bytes.sent, seconds)
      received.add(status.bytes.received, since: former.bytes.received, seconds)
    }
    let identifier = selectedFlow?.id
    let former = Dictionary(
      lines.map { ($0.flow.id, $0.flow.bytes) }, uniquingKeysWith: { first, _ in first })
    lines = list.flows.map { flow in
      let moved = former[flow.id].map { flow.bytes > $0 ? flow.bytes - $0 : 0 } ?? 0
      return Line(flow: flow, rate: seconds > 0 ? Double(moved) / seconds : 0)
    }
    (self.status, omitted) = (status, list.omitted)
    // The selection stays with its flow; when that is gone, in its place.
    if let place = lines.firstIndex(where: { $0.flow.id == identifier }) { selected = place }
    selected = max(0, min(selected, lines.count - 1))
    if let asked = question, !lines.contains(where: { $0.flow.id == asked.id }) {
      question = nil
      note = "\(asked.id) has ended by itself"
    }
  }

  var selectedFlow: FlowStatus? {
    lines.indices.contains(selected) ? lines[selected].flow : nil
  }

  /// Tells what has come of `Action.kill`.
  mutating func noteEnd(of flow: String, isDone: Bool) {
    note = isDone ? "\(flow) is ended" : "\(flow) had ended by itself"
  }

  /// - Parameter page: how many flows are seen at once.
  mutating func handle(_ key: Key, page: Int) -> Action {
    if let question {
      if key == .interrupt { return .quit }
      self.question = nil
      return key == .letter("y") ? .kill(question.id) : .none
    }
    note = ""
    switch key {
    case .up: select(selected - 1)
    case .down: select(selected + 1)
    case .pageUp: select(selected - page)
    case .pageDown: select(selected + page)
    case .interrupt, .letter("q"): return .quit
    case .letter("s"):
      order = order == .age ? .bytes : .age
      return .list
    case .letter("k"): question = selectedFlow
    case .escape, .letter: break
    }
    return .none
  }

  private mutating func select(_ place: Int) { selected = max(0, min(place, lines.count - 1)) }
}

/// How fast a total has grown, look by look.
struct RateHistory: Hashable {
  private static let maximum = 256

  /// Per second, the newest last.
  private(set) var rates: [Double] = []

  mutating func add(_ total: UInt64, since former: UInt64, _ seconds: Double) {
    guard seconds > 0 else { return }
    if rates.count == Self.maximum { rates.removeFirst() }
    rates.append(total > former ? Double(total - former) / seconds : 0)
  }
}
