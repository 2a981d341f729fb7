internal import Addressing
package import Configuration
internal import DataPlane
internal import NFTables
internal import Netfilter
internal import RedirectPolicy

/// `sluice explain`: which rule decides over a flow, and why. Changes nothing.
package struct ExplainCommand {
  private let flow: Flow
  private let packet: Packet
  /// Where a captured flow goes; nil if a rule of the user's rejects it.
  private let upstream: String?
  private let explanation: Explanation
  /// Nil where no rules of the user's are known.
  private let finding: PolicyFinding?
  /// What is beside the rules that were asked about, one line; nil if nothing is.
  private let remark: String?

  /// Asks the rules that the settings would make.
  /// - Parameter isRunning: whether it is asked for the time in which Sluice runs.
  package init(
    _ configuration: Configuration, _ flow: Flow, isRunning: Bool
  ) throws(CommandFailure) {
    let places = try UpstreamSetup.places(configuration.upstreams)
    let policy = try Scope(configuration, upstreams: places.joined().compactMap(\.exemption)).policy
    self.flow = flow
    packet = try Packet(flow)
    explanation = policy.explain(packet, isRunning: isRunning)
    finding = try PolicyFinding(configuration, flow, packet)
    let members = configuration.upstreams
    upstream =
      switch finding?.decision {
      case .upstreams(let chosen):
        members.members.indices.filter(chosen.contains).map(members.label).joined(separator: ", ")
      case .direct: "\(flow.destination), directly"
      case .reject: nil
      case nil:
        members.names.allSatisfy { $0 == nil }
          ? "\(members)" : members.defaults.map(members.label).joined(separator: ", ")
      }
    remark = nil
  }

  /// Asks the rules that are in force.
  package init(inForce flow: Flow) throws(CommandFailure) {
    let state = try RulesCommand.state()
    self.flow = flow
    upstream = "the upstream"
    finding = nil
    packet = try Packet(flow)
    explanation = Explanation(of: packet, tables: state.ours, routing: state.routingPlan)
    if state.ours.isEmpty {
      remark =
        "no rules of Sluice are in force here; --machine or --gateway asks about those that "
        + "would be"
    } else {
      remark =
        state.foreign.isEmpty
        ? nil : "changed by others, which is left out: \(state.foreign.joined(separator: "; "))"
    }
  }

  /// For people.
  package var text: String {
    var lines = ["\(subject): \(verdict)"]
    if let destination = nextHop { lines.append("goes to: \(destination)") }
    switch explanation.decision {
    case .matched(let step):
      lines.append("rule: \(place(step.table, step.chain)): \(step.rule)")
      if let reason = reason(step.reasons) { lines.append("because \(reason)") }
    case .ended(let miss):
      let last = miss.rule.map { "; its last is \($0)" } ?? ""
      lines.append("rule: none of \(place(miss.table, miss.chain))\(last)")
      if let reason = miss.reason { lines.append("because \(reason)") }
    case nil:
      lines.append("rule: none, no chain sees such packets")
    }
    if explanation.isCaptured, let finding {
      lines.append("policy: \(finding.rule ?? "no rule of yours") \(finding.fate)")
      if !finding.possible.isEmpty {
        lines.append(
          "unless looked up by a name of: \(finding.possible.joined(separator: ", "))")
      }
    }
    if let remark { lines.append("beside: \(remark)") }
    if !explanation.events.isEmpty { lines.append("the way there:") }
    return (lines + explanation.events.compactMap(line).map { "  \($0)" }).joined(separator: "\n")
  }

  /// One JSON object.
  package var json: String {
    let object = JSON.object([
      ("flow", .text(subject)),
      ("verdict", .text(verdictWord)),
      ("by", captureWord.map(JSON.text)),
      ("reject", rejection.map(JSON.text)),
      ("to", nextHop.map(JSON.text)),
      ("decision", explanation.decision.map(json)),
      ("policy", explanation.isCaptured ? finding?.json : nil),
      ("remark", remark.map(JSON.text)),
      ("trace", .array(explanation.events.map(json))),
    ])
    return object.description
  }

  // MARK: Words

  private var subject: String {
    let destination =
      flow.transport == .icmp
      ? "\(flow.destination)" : "\(SocketAddress(flow.destination, flow.port))"
    var parts = ["\(flow.transport.rawValue) to \(destination)"]
    if let input = packet.input {
      parts.append("from \(packet.source), arriving by \(input.name)")
    } else if let user = packet.user, let group = packet.group {
      parts.append("of user \(user) and group \(group)")
    }
    if let output = packet.output { parts.append("towards \(output)") }
    return parts.joined(separator: " ")
  }

  private var verdict: String {
    switch explanation.verdict {
    case .captured(.redirect(let listener)): "captured by redirect, at port \(listener.port)"
    case .captured(.tproxy(let listener)): "captured by tproxy, at \(listener)"
    case .direct: "goes directly"
    case .rejected: "rejected" + (rejection.map { " with \($0)" } ?? "")
    case .dropped: "dropped"
    }
  }

  private var verdictWord: String {
    switch explanation.verdict {
    case .captured: "captured"
    case .direct: "direct"
    case .rejected: "rejected"
    case .dropped: "dropped"
    }
  }

  private var captureWord: String? {
    switch explanation.verdict {
    case .captured(.redirect): "redirect"
    case .captured(.tproxy): "tproxy"
    case .direct, .rejected, .dropped: nil
    }
  }

  private var rejection: String? {
    switch explanation.verdict {
    case .rejected(.tcpReset): "TCP reset"
    case .rejected(.portUnreachable): "ICMP port unreachable"
    case .rejected(.administrativelyProhibited): "ICMP administratively prohibited"
    case .captured, .direct, .dropped: nil
    }
  }

  /// Nil for what ends here.
  private var nextHop: String? {
    switch explanation.verdict {
    case .captured: upstream
    case .direct: packet.destinationType == .local ? "this host" : "\(flow.destination)"
    case .rejected, .dropped: nil
    }
  }

  private func place(_ table: String, _ chain: String) -> String {
    "table inet \(table), chain \(chain)"
  }

  private func reason(_ reasons: [String]) -> String? {
    reasons.isEmpty ? nil : reasons.joined(separator: ", and ")
  }

  /// Nil for the end of a chain whose last rule has held: there is nothing to say.
  private func line(_ event: Evaluator.Event) -> String? {
    switch event {
    case .matched(let step):
      let reason = reason(step.reasons).map { " (\($0))" } ?? ""
      return "\(step.table) \(step.chain): \(step.rule)\(reason)"
    case .ended(let miss):
      return miss.reason.map { "\(miss.table) \(miss.chain): policy accept (\($0))" }
    }
  }

  private func json(_ event: Evaluator.Event) -> JSON {
    switch event {
    case .matched(let step):
      .object([
        ("table", .text(step.table)), ("chain", .text(step.chain)),
        ("rule", .text("\(step.rule)")), ("comment", step.rule.comment.map(JSON.text)),
        ("reasons", .array(step.reasons.map(JSON.text))),
      ])
    case .ended(let miss):
      .object([
        ("table", .text(miss.table)), ("chain", .text(miss.chain)),
        ("missed", miss.rule.map { .text("\($0)") }),
        ("reasons", .array([miss.reason].compactMap(\.self).map(JSON.text))),
      ])
    }
  }
}

extension Explanation {
  fileprivate var isCaptured: Bool {
    switch verdict {
    case .captured: true
    case .direct, .rejected, .dropped: false
    }
  }
}

extension PolicyFinding {
  /// For people, behind the rule.
  fileprivate var fate: String {
    switch decision {
    case .upstreams: rule == nil ? "concerns it" : "sends it there"
    case .direct: "lets it go directly"
    case .reject: "resets it"
    }
  }

  fileprivate var json: JSON {
    let word =
      switch decision {
      case .upstreams: "upstream"
      case .direct: "direct"
      case .reject: "reject"
      }
    return .object([
      ("rule", rule.map(JSON.text)), ("decision", .text(word)),
      ("possible", .array(possible.map(JSON.text))),
    ])
  }
}
