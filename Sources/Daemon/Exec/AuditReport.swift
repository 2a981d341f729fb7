internal import Addressing
internal import DataPlane

/// What a program has talked to, as a table for people or as one JSON object.
struct AuditReport: Hashable {
  let entries: [Audit.Entry]
  let omitted: Audit.Traffic

  init(_ audit: Audit) { self.init(audit.entries(), omitted: audit.omitted) }

  init(_ entries: [Audit.Entry], omitted: Audit.Traffic) {
    self.entries = entries
    self.omitted = omitted
  }

  /// Lines of equal columns; ends with a line feed.
  var table: String {
    var rows = [["", "destination", "name", "flows", "failed", "sent", "received"]]
    rows += entries.map { entry in
      [entry.destination.transport.rawValue, "\(entry.destination.address)", entry.name ?? "-"]
        + Self.columns(entry.traffic)
    }
    if omitted.flows > 0 { rows.append(["", "others", "-"] + Self.columns(omitted)) }
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      let cells = row.indices.map { column in
        // Numbers end at the same column, all else begins there.
        let space = String(repeating: " ", count: widths[column] - row[column].count)
        return column < 3 ? row[column] + space : space + row[column]
      }
      return cells.joined(separator: "  ") + "\n"
    }.joined()
  }

  private static func columns(_ traffic: Audit.Traffic) -> [String] {
    [
      "\(traffic.flows)", "\(traffic.failed)", byteCount(traffic.sent), byteCount(traffic.received),
    ]
  }

  /// One line with its end.
  var json: String {
    let destinations = entries.map { entry in
      let destination = entry.destination
      return
        "{\"protocol\":\"\(destination.transport.rawValue)\","
        + "\"address\":\"\(destination.address.address)\",\"port\":\(destination.address.port),"
        + "\"name\":\(entry.name.map(JSON.quote) ?? "null"),\(Self.members(entry.traffic))}"
    }
    return
      "{\"event\":\"audit\",\"destinations\":[\(destinations.joined(separator: ","))],"
      + "\"omitted\":{\(Self.members(omitted))}}\n"
  }

  private static func members(_ traffic: Audit.Traffic) -> String {
    "\"flows\":\(traffic.flows),\"failed\":\(traffic.failed),\"sent\":\(traffic.sent),"
      + "\"received\":\(traffic.received)"
  }
}
