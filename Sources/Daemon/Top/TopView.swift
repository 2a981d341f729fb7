internal import LinuxIO

/// `TopState` as lines of a screen: a pure function. No line has more characters than columns, and none a
/// character that a terminal obeys, whatever others have given as names.
struct TopView {
  /// A line, and how it stands out.
  struct Line: Hashable {
    enum Emphasis { case none, title, selected }

    var text: String
    var emphasis = Emphasis.none
  }

  /// Lines above and below the flows.
  private static let headLines = 6
  private static let footLines = 1
  private static let labelColumns = 22

  private static let bars = Array("▁▂▃▄▅▆▇█")
  private static let plainBars = Array("_.-:=+*#")

  let size: Screen.Size
  /// Whether the terminal is one of UTF-8; else everything is ASCII.
  let isUnicode: Bool

  /// How many flows are seen at once.
  var page: Int { max(1, size.rows - Self.headLines - Self.footLines) }

  /// As many as the screen has rows.
  func lines(_ state: TopState) -> [Line] {
    var lines = head(state)
    lines.append(Line(text: titles, emphasis: .title))
    // The selected one stays in sight, one page after the other.
    let first = state.selected / page * page
    for (place, line) in state.lines.enumerated().dropFirst(first).prefix(page) {
      lines.append(
        Line(text: row(line), emphasis: place == state.selected ? .selected : .none))
    }
    lines = Array(lines.prefix(max(0, size.rows - Self.footLines)))
    while lines.count < size.rows - Self.footLines { lines.append(Line(text: "")) }
    lines.append(foot(state))
    return lines.map { line in
      Line(
        text: fit(line.text, size.columns, padded: line.emphasis != .none), emphasis: line.emphasis)
    }
  }

  // MARK: Above the flows

  private func head(_ state: TopState) -> [Line] {
    guard let status = state.status else {
      return Array(repeating: Line(text: ""), count: Self.headLines - 1)
    }
    let upstreams = status.upstreams.map { upstream in
      upstream.health == .down ? "\(upstream.url) (down)" : upstream.url
    }.joined(separator: ", ")
    let datagrams =
      status.associations.opened > 0 ? "; UDP: \(status.associations.live) clients" : ""
    return [
      Line(
        text: "sluice \(status.version), up \(RunStatus.span(status.uptime)), captures "
          + status.scope
          + (status.rules.phase == .capturing ? "" : " (\(status.rules.phase.rawValue))")),
      Line(text: "through \(upstreams)"),
      Line(
        text: "flows: \(status.sessions.live) open, \(status.sessions.opened) in all, "
          + "\(status.sessions.failed) failed\(datagrams)"),
      graph("sent", state.sent), graph("received", state.received),
    ]
  }

  /// A label, the last rate, and those before it as bars, the highest being the whole height.
  private func graph(_ name: String, _ history: RateHistory) -> Line {
    let label = pad("\(name) \(Self.rate(history.rates.last ?? 0))", Self.labelColumns)
    let rates = history.rates.suffix(max(0, size.columns - Self.labelColumns))
    let highest = rates.max() ?? 0
    let bars = isUnicode ? Self.bars : Self.plainBars
    let graph = rates.map { rate -> Character in
      guard highest > 0 else { return bars[0] }
      return bars[Int((rate / highest * Double(bars.count - 1)).rounded())]
    }
    return Line(text: label + String(graph))
  }

  private static func rate(_ bytes: Double) -> String { "\(byteCount(UInt64(max(0, bytes))))/s" }

  // MARK: Flows

  private static let ageColumns = 12
  private static let rateColumns = 13
  private static let bytesColumns = 11

  /// What is left for the two columns that give way, 5 : 4.
  private var flexible: (destination: Int, owner: Int) {
    let rest = max(
      0, size.columns - Self.ageColumns - Self.rateColumns - Self.bytesColumns)
    let destination = rest * 5 / 9
    return (destination, rest - destination)
  }

  private var titles: String { row("DESTINATION", "FROM", "AGE", "NOW", "BYTES") }

  private func row(_ line: TopState.Line) -> String {
    let cells = FlowTable.Row(line.flow)
    let owner = cells.program.isEmpty || cells.program == "-" ? cells.client : cells.program
    let protocolMark = line.flow.protocol == "udp" ? "udp " : ""
    return row(
      protocolMark + cells.destination, owner, cells.age, Self.rate(line.rate),
      byteCount(line.flow.bytes))
  }

  private func row(
    _ destination: String, _ owner: String, _ age: String, _ rate: String, _ bytes: String
  ) -> String {
    let (destinationColumns, ownerColumns) = flexible
    return cell(destination, destinationColumns) + cell(owner, ownerColumns)
      + right(age, Self.ageColumns) + right(rate, Self.rateColumns)
      + right(bytes, Self.bytesColumns)
  }

  // MARK: Below the flows

  private func foot(_ state: TopState) -> Line {
    if let flow = state.question {
      return Line(
        text:
          "end \(flow.id) to \(flow.place), \(byteCount(flow.bytes))? y: yes, any other key: no",
        emphasis: .title)
    }
    let more = state.omitted > 0 ? "and \(state.omitted) more  " : ""
    let note = state.note.isEmpty ? "" : "\(state.note)  "
    return Line(
      text:
        "\(note)\(more)q quit  up/down select  k end a flow  s sort (by \(state.order.rawValue))")
  }

  // MARK: Columns

  /// So many columns, the last of which is a space.
  private func cell(_ text: String, _ columns: Int) -> String {
    pad(fit(text.inColumns, columns - 1, padded: false), columns)
  }

  private func right(_ text: String, _ columns: Int) -> String {
    String(repeating: " ", count: max(0, columns - text.count)) + text
  }

  private func pad(_ text: String, _ columns: Int) -> String {
    text + String(repeating: " ", count: max(0, columns - text.count))
  }

  /// Cut, with a mark that it is, to so many columns at most; bars are the only characters beyond ASCII.
  private func fit(_ text: String, _ columns: Int, padded: Bool) -> String {
    let plain = String(text.map { Self.bars.contains($0) || $0.isASCIIColumn ? $0 : "?" })
    guard plain.count > columns else { return padded ? pad(plain, columns) : plain }
    return columns > 0 ? String(plain.prefix(columns - 1)) + "~" : ""
  }
}

extension Character {
  fileprivate var isASCIIColumn: Bool { (" "..."~").contains(self) && isASCII }
}

extension TopView {
  /// What a terminal is sent to show lines in place of those before.
  static func frame(_ lines: [Line]) -> String {
    let rows = lines.map { line in
      switch line.emphasis {
      case .none: "\u{1b}[2K\(line.text)"
      case .title: "\u{1b}[2K\u{1b}[1m\(line.text)\u{1b}[m"
      case .selected: "\u{1b}[2K\u{1b}[7m\(line.text)\u{1b}[m"
      }
    }
    return "\u{1b}[H" + rows.joined(separator: "\r\n") + "\u{1b}[J"
  }
}
