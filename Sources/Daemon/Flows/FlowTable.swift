/// Flows in columns, for people.
struct FlowTable {
  /// What stands in the columns of a flow, none with a character that has not one column everywhere.
  struct Row {
    var id, transport, client, destination, upstream, program, age, sent, received: String

    init(_ flow: FlowStatus) {
      id = flow.id
      transport = flow.protocol
      client = (flow.client ?? "-").inColumns
      destination = flow.place.inColumns
      upstream = (flow.upstream ?? "-").inColumns
      program = flow.owner.inColumns
      age = Self.span(flow.age)
      sent = byteCount(flow.sent)
      received = byteCount(flow.received)
    }

    /// "0.4 s", "59 s", "3 min 2 s".
    private static func span(_ seconds: Double) -> String {
      seconds < 10
        ? "\((seconds * 10).rounded(.down) / 10) s" : RunStatus.span(UInt64(max(0, seconds)))
    }

    fileprivate var cells: [String] {
      [id, transport, client, destination, upstream, age, sent, received, program]
    }
  }

  private static let titles = [
    "ID", "", "CLIENT", "DESTINATION", "UPSTREAM", "AGE", "SENT", "RECEIVED", "PROGRAM",
  ]

  /// One for each flow, below one of titles.
  static func lines(_ flows: [FlowStatus]) -> [String] {
    let rows = [titles] + flows.map { Row($0).cells }
    let widths = titles.indices.map { column in rows.map { $0[column].utf8.count }.max() ?? 0 }
    return rows.map { row in
      var line = ""
      for (cell, width) in zip(row, widths) {
        line += cell + String(repeating: " ", count: width + 2 - cell.utf8.count)
      }
      while line.last == " " { line.removeLast() }
      return line
    }
  }
}

extension FlowStatus {
  /// Where it goes, by name where that is known.
  var place: String {
    guard let destination else { return "-" }
    guard let name, let colon = destination.lastIndex(of: ":") else { return destination }
    return name + destination[colon...]
  }

  /// "curl (1234)", "uid 1000".
  var owner: String {
    guard let program else { return scope == .gateway ? "" : "-" }
    guard let pid = program.pid, let name = program.name else { return "uid \(program.uid)" }
    return "\(name) (\(pid))"
  }
}
