package import NFTables

/// What the rules of a policy make of a packet, and why.
package struct Explanation: Hashable, Sendable {
  package enum Verdict: Hashable, Sendable {
    case captured(Evaluator.Target)
    /// It goes its ordinary way.
    case direct
    case rejected(Reject)
    case dropped
  }

  package let verdict: Verdict
  /// Rules that held, and chains that ended without one, in order. What decided is the last one of a
  /// packet that was captured, rejected or dropped.
  package let events: [Evaluator.Event]
  /// What decided; nil if no chain sees the packet.
  package let decision: Evaluator.Event?
}

extension RedirectPolicy {
  /// What the policy's tables and routing make of a packet.
  /// - Parameter isRunning: whether the daemon is there; without it only the guard's table is.
  package func explain(_ packet: Packet, isRunning: Bool = true) -> Explanation {
    let tables = [guardTable(), isRunning ? table() : nil].compactMap(\.self)
    return Explanation(of: packet, tables: tables, routing: routing())
  }
}

extension Explanation {
  /// Follows a packet through the tables, from where it is sent or arrives to where it leaves this host
  /// or stays in it.
  /// - Parameter tables: in the order in which they were installed.
  package init(of packet: Packet, tables: [Table], routing: RoutingPlan) {
    var evaluator = Evaluator(tables, packet)
    let end =
      packet.input == nil
      ? Self.sending(&evaluator, routing)
      : Self.arriving(&evaluator, leavingBy: packet.output, routing)
    events = evaluator.events
    let matched = events.last { if case .matched = $0 { true } else { false } }
    switch end {
    case .rejected(let rejection):
      verdict = .rejected(rejection)
      decision = matched
    case .dropped:
      verdict = .dropped
      decision = matched
    case .accepted:
      if let target = evaluator.captured {
        verdict = .captured(target)
        decision = events.last {
          if case .matched(let step) = $0 { step.rule.isCapturing } else { false }
        }
      } else {
        verdict = .direct
        let deciding = events.filter { $0.isOfScope(ofPacketFrom: packet.input) }
        decision = deciding.last { !$0.isOfOtherTransports } ?? deciding.last
      }
    }
  }

  /// What a program of this host sends: out, and where that leads back to this host, in.
  private static func sending(
    _ evaluator: inout Evaluator, _ routing: RoutingPlan
  ) -> Evaluator.End {
    var end = evaluator.pass(.output)
    guard end == .accepted else { return end }
    if routing.delivers(evaluator.packet) || evaluator.packet.destinationType == .local {
      evaluator.route(to: Packet.Interface.loopback.name)
    }
    end = evaluator.pass(.postrouting)
    guard end == .accepted, evaluator.packet.output == Packet.Interface.loopback.name else {
      return end
    }
    // It keeps the route that it was sent by (`loopback_xmit`), and with it ends here.
    evaluator.loopBack()
    end = evaluator.pass(.prerouting)
    return end == .accepted ? evaluator.pass(.input) : end
  }

  /// What arrives: in, and unless it is for this host, out again.
  private static func arriving(
    _ evaluator: inout Evaluator, leavingBy output: String?, _ routing: RoutingPlan
  ) -> Evaluator.End {
    evaluator.route(to: nil)
    let end = evaluator.pass(.prerouting)
    guard end == .accepted else { return end }
    if evaluator.packet.destinationType != nil || routing.delivers(evaluator.packet) {
      return evaluator.pass(.input)
    }
    evaluator.route(to: output)
    let forwarded = evaluator.pass(.forward)
    return forwarded == .accepted ? evaluator.pass(.postrouting) : forwarded
  }
}

extension RoutingPlan {
  /// Whether the rules lead a packet to the table that delivers everything to this host. To them what
  /// this host sends comes from `lo`.
  func delivers(_ packet: Packet) -> Bool {
    let interface = packet.input?.name ?? Packet.Interface.loopback.name
    var first: UInt32 = 0
    for rule in rules.sorted(by: { $0.priority < $1.priority })
    where rule.family == packet.family && rule.priority >= first {
      if let mark = rule.mark, packet.mark & mark.mask != mark.value { continue }
      if let name = rule.inputInterface, name != interface { continue }
      switch rule.action {
      case .lookup: return true
      case .goto(let priority): first = priority
      case .nothing: break
      }
    }
    return false
  }
}

extension Evaluator.Event {
  /// Whether it comes from a chain that captures or rejects what the packet's sender sends: those of
  /// this host are at `output`, since nothing is left to decide where a packet comes back in, and those
  /// of a LAN have names of their own.
  fileprivate func isOfScope(ofPacketFrom input: Packet.Interface?) -> Bool {
    let (hook, base) =
      switch self {
      case .matched(let step): (step.hook, step.base)
      case .ended(let miss): (miss.hook, miss.base)
      }
    return input == nil
      ? hook == .output && base.hasPrefix("machine_") : base.hasPrefix("gateway_")
  }

  /// Whether a chain has left the packet since it is for other transports.
  fileprivate var isOfOtherTransports: Bool {
    guard case .matched(let step) = self else { return false }
    return step.rule.expressions.allSatisfy { expression in
      switch expression {
      case .transport(let match): match.comparison == .notEqual
      case .verdict(.return): true
      default: false
      }
    }
  }
}

extension Rule {
  fileprivate var isCapturing: Bool {
    expressions.contains { expression in
      if case .redirect = expression { return true }
      if case .tproxy = expression { return true }
      return false
    }
  }
}
