internal import Glibc
package import Logging

/// Log lines on standard error: for people (`sluice: warning: …`), or one JSON object each.
package struct StderrLog: LogHandler {
  package enum Format: Sendable { case text, json }

  package var logLevel: Logger.Level
  package var metadata: Logger.Metadata = [:]
  private let format: Format

  package init(_ format: Format, level: Logger.Level) {
    self.format = format
    logLevel = level
  }

  package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  package func log(event: LogEvent) {
    let fields = metadata.merging(event.metadata ?? [:]) { $1 }
    var line =
      switch format {
      case .text: text(event.level, "\(event.message)")
      case .json: json(event.level, "\(event.message)", fields)
      }
    line += "\n"
    // One write, so that lines of several threads do not mix.
    var bytes = Array(line.utf8)
    _ = write(STDERR_FILENO, &bytes, bytes.count)
  }

  /// The message says all that a person needs; the fields are for programs.
  private func text(_ level: Logger.Level, _ message: String) -> String {
    switch level {
    case .trace, .debug: "sluice: debug: \(message)"
    case .info, .notice: "sluice: \(message)"
    case .warning: "sluice: warning: \(message)"
    case .error, .critical: "sluice: error: \(message)"
    }
  }

  private func json(_ level: Logger.Level, _ message: String, _ fields: Logger.Metadata) -> String {
    var members = [
      "\"time\":\"\(timestamp())\"", "\"level\":\"\(level)\"", "\"message\":\(JSON.quote(message))",
    ]
    for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
      members.append("\(JSON.quote(key)):\(encode(value))")
    }
    return "{\(members.joined(separator: ","))}"
  }

  private func encode(_ value: Logger.Metadata.Value) -> String {
    switch value {
    case .string(let text): return JSON.quote(text)
    case .stringConvertible(let value):
      if value is any BinaryInteger || value is Bool { return "\(value)" }
      return JSON.quote("\(value)")
    case .array(let values): return "[\(values.map(encode).joined(separator: ","))]"
    case .dictionary(let values):
      let members = values.sorted { $0.key < $1.key }.map {
        "\(JSON.quote($0.key)):\(encode($0.value))"
      }
      return "{\(members.joined(separator: ","))}"
    }
  }

  /// RFC 3339, in UTC with milliseconds.
  private func timestamp() -> String {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    var parts = tm()
    gmtime_r(&time.tv_sec, &parts)
    func pad(_ value: Int32, _ width: Int = 2) -> String {
      let digits = "\(value)"
      return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    let date = "\(pad(parts.tm_year + 1900, 4))-\(pad(parts.tm_mon + 1))-\(pad(parts.tm_mday))"
    let clock = "\(pad(parts.tm_hour)):\(pad(parts.tm_min)):\(pad(parts.tm_sec))"
    return "\(date)T\(clock).\(pad(Int32(time.tv_nsec / 1_000_000), 3))Z"
  }
}
