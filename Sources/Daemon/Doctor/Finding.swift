/// What came of one check.
struct Finding: Hashable, Sendable {
  enum Verdict: String, Hashable, Sendable {
    case ok
    /// `run` works, though not in everything, or not for long.
    case warning
    /// `run` would refuse, or would not capture.
    case failure
  }

  /// The checks, by the names that are printed; they stay the same, for scripts.
  enum Check: String, Hashable, Sendable {
    case privileges
    case sandbox
    case ownedTables = "owned_tables"
    case nat
    case tproxy
    case socket
    case fib
    case reject
    case controlGroups = "cgroups"
    case tproxyIPv4 = "tcp_tproxy_ipv4"
    case tproxyIPv6 = "tcp_tproxy_ipv6"
    case redirectIPv4 = "tcp_redirect_ipv4"
    case redirectIPv6 = "tcp_redirect_ipv6"
    case udpIPv4 = "udp_ipv4"
    case udpIPv6 = "udp_ipv6"
    case instance
    case ports
    case ipv6
    case descriptors
    case conntrack
    case marks
    case rulePriority = "rule_priority"
    case routeTable = "route_table"
    case interfaces
    case forwarding
    case sourceValidation = "rp_filter"
    case bridgeFilter = "br_netfilter"
    case upstream
    case upstreamIPv6 = "upstream_ipv6"
    case upstreamUDP = "upstream_udp"
  }

  let check: Check
  let verdict: Verdict
  /// What was found, one line.
  let what: String
  /// What to do about it; nil exactly if nothing is to be done.
  let advice: String?

  static func ok(_ check: Check, _ what: String) -> Finding {
    Finding(check: check, verdict: .ok, what: what, advice: nil)
  }

  static func warning(_ check: Check, _ what: String, advice: String) -> Finding {
    Finding(check: check, verdict: .warning, what: what, advice: advice)
  }

  static func failure(_ check: Check, _ what: String, advice: String) -> Finding {
    Finding(check: check, verdict: .failure, what: what, advice: advice)
  }

  /// A failure of what the wanted scope needs, a warning about anything else.
  static func missing(
    _ check: Check, isNeeded: Bool, _ what: String, advice: String
  ) -> Finding {
    Finding(check: check, verdict: isNeeded ? .failure : .warning, what: what, advice: advice)
  }
}

extension Finding {
  /// For people: "warning  forwarding: IPv4 is not forwarded -> …".
  var text: String {
    let column = 9
    let word = verdict.rawValue
    let padding = String(repeating: " ", count: column - word.count)
    return "\(word)\(padding)\(check.rawValue): \(what)" + (advice.map { " -> \($0)" } ?? "")
  }

  /// For programs: one object.
  var json: String {
    JSON.object([
      ("check", .text(check.rawValue)), ("verdict", .text(verdict.rawValue)),
      ("finding", .text(what)), ("advice", advice.map(JSON.text)),
    ]).description
  }
}

extension ExitStatus {
  /// Of a doctor with these findings: warnings are no reason to fail.
  init(_ findings: [Finding]) {
    let failures = findings.filter { $0.verdict == .failure }
    if failures.isEmpty {
      self = .done
    } else {
      self = failures.contains { $0.check == .privileges } ? .noPermission : .unavailable
    }
  }
}
