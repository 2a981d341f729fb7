/// What a run says of itself, as docs/control.md describes it: the members of the answer to `status`.
/// Nothing in it is secret.
struct RunStatus: Hashable, ControlMessage {
  enum Health: String, Codable {
    case up, down
    /// Nobody watches it: the only upstream, without `--on-upstream-down open` or `--probe-interval`.
    case unknown
  }

  /// What came of asking an upstream last whether it lives.
  struct Probe: Hashable, Codable {
    /// Seconds since then.
    var age: UInt64
    /// How long it took.
    var milliseconds: UInt64
    /// Nil if it has answered.
    var failure: String?
  }

  struct Upstream: Hashable, Codable {
    /// By which rules send flows there; nil if it has none.
    var name: String?
    /// As people call it: without the password.
    var url: String
    var health: Health
    var ipv6: Bool
    /// "relayed", "refused" or "unknown".
    var datagrams: String
    /// Whether it takes a handshake in one write.
    var pipelined: Bool
    /// Nil where nobody has asked.
    var probe: Probe?
  }

  struct Sessions: Hashable, Codable { var live, opened, failed, retried: UInt64 }
  struct Associations: Hashable, Codable { var live, opened: UInt64 }
  /// To the upstream, and from it.
  struct Traffic: Hashable, Codable { var sent, received: UInt64 }
  /// DNS queries that went on by TCP.
  struct Queries: Hashable, Codable { var carried, answered, truncated, failed: UInt64 }

  struct Limit: Hashable, Codable {
    var name: String
    var used, limit: Int
  }

  struct Rules: Hashable, Codable {
    enum Phase: String, Codable, CaseIterable { case capturing, draining, suspended, absent }

    var phase: Phase
    /// How often something was put back that others had taken away.
    var restored: Int
    /// Kernel settings that others have changed.
    var changed: Int
    /// Why something could not be put back, while that lasts.
    var trouble: String?
  }

  var version: String
  var process: Int32
  /// Seconds.
  var uptime: UInt64
  /// For people.
  var scope: String
  /// How one of several is chosen; nil if there is only one.
  var balance: String?
  var upstreams: [Upstream]
  var rules: Rules
  var sessions: Sessions
  var associations: Associations
  var bytes: Traffic
  var datagrams: Traffic
  var queries: Queries
  /// Of sessions and their bytes, per second.
  var rates: RateMeter.Rates
  /// How often accepting had to pause.
  var pauses: UInt64
  /// Those that have happened, by name.
  var failures: [String: UInt64]
  /// Datagrams that went no further, by the reason.
  var drops: [String: UInt64]
  var limits: [Limit]
}

// MARK: For people

extension RunStatus: CustomStringConvertible {
  /// Lines of a label and what there is to say.
  var description: String {
    var lines: [(String, String)] = [
      ("sluice", "\(version), pid \(process), up \(Self.span(uptime))"),
      ("captures", "\(scope)\(rules.phase == .capturing ? "" : " (\(rules.phase.rawValue))")"),
    ]
    for upstream in upstreams { lines.append(("upstream", "\(upstream)")) }
    if let balance { lines.append(("balance", balance)) }
    lines.append(
      (
        "flows",
        "\(sessions.live) open, \(sessions.opened) in all (\(rates.sessions)/s), "
          + "\(sessions.failed) failed" + (failures.isEmpty ? "" : ": \(Self.list(failures))")
      ))
    lines.append(
      (
        "bytes",
        "\(byteCount(bytes.sent)) sent (\(Self.rate(rates.sent))), "
          + "\(byteCount(bytes.received)) received (\(Self.rate(rates.received)))"
      ))
    if associations.opened > 0 {
      lines.append(
        (
          "UDP",
          "\(associations.live) clients, \(associations.opened) in all; \(datagrams.sent) sent, "
            + "\(datagrams.received) received"
            + (drops.isEmpty ? "" : ", dropped: \(Self.list(drops))")
        ))
    }
    if queries.carried > 0 {
      lines.append(
        (
          "DNS by TCP",
          "\(queries.carried) queries, \(queries.answered) answered, \(queries.failed) failed"
        ))
    }
    lines.append(("rules", "\(rules)"))
    // Those that nothing is used of are of no interest to people, but the first.
    let uses = limits.enumerated().filter { $0 == 0 || $1.used > 0 }.map(\.element)
    let texts = uses.map { "\($0.name) \($0.used) of \($0.limit)" }
    lines.append(
      (
        "limits",
        texts.joined(separator: ", ") + (pauses > 0 ? "; accepting has paused \(pauses) times" : "")
      ))
    let width = lines.map(\.0.count).max() ?? 0
    return lines.map { label, text in
      label + String(repeating: " ", count: width + 2 - label.count) + text
    }.joined(separator: "\n")
  }

  private static func list(_ counts: [String: UInt64]) -> String {
    counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
      .map { "\($0.value) \($0.key)" }.joined(separator: ", ")
  }

  private static func rate(_ bytes: Double) -> String { "\(byteCount(UInt64(bytes)))/s" }

  /// The two largest units: "2 d 3 h", "59 s".
  static func span(_ seconds: UInt64) -> String {
    let units: [(String, UInt64)] = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    guard let first = units.firstIndex(where: { seconds >= $0.1 }), first < units.count - 1 else {
      return "\(seconds) s"
    }
    let (large, small) = (units[first], units[first + 1])
    return "\(seconds / large.1) \(large.0) \(seconds % large.1 / small.1) \(small.0)"
  }
}

extension RunStatus.Upstream: CustomStringConvertible {
  var description: String {
    let state = health == .unknown ? "" : "\(health.rawValue), "
    return
      "\(name.map { "\($0), " } ?? "")\(url): \(state)UDP \(datagrams), IPv6 \(ipv6 ? "carried" : "refused"), handshake "
      + (pipelined ? "in one write" : "step by step") + (probe.map { "; \($0)" } ?? "")
  }
}

extension RunStatus.Probe: CustomStringConvertible {
  var description: String {
    let ago = "\(RunStatus.span(age)) ago"
    return failure.map { "failed when asked \(ago): \($0)" }
      ?? "answered \(ago), in \(milliseconds) ms"
  }
}

extension RunStatus.Rules: CustomStringConvertible {
  var description: String {
    (phase == .absent ? "not in place" : "in place") + ", put back \(restored) times"
      + (changed > 0 ? ", \(changed) kernel settings changed by others" : "")
      + (trouble.map { "; cannot put back what somebody took away: \($0)" } ?? "")
  }
}
