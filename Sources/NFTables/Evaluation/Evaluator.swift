package import Addressing

/// Takes one packet through tables hook by hook, as the kernel would, and notes what decides on its
/// way. What it knows about the kernel is written at each place; routing is the caller's.
package struct Evaluator: Sendable {
  /// How a base chain ended.
  package enum End: Hashable, Sendable {
    case accepted
    case dropped
    case rejected(Reject)
  }

  /// A rule that held for the packet.
  package struct Step: Hashable, Sendable {
    package let table: String
    package let hook: Chain.Hook
    /// The base chain on whose behalf.
    package let base: String
    package let chain: String
    package let rule: Rule
    /// Why each match of the rule held.
    package let reasons: [String]
  }

  /// Where a base chain came to its end without a verdict.
  package struct Miss: Hashable, Sendable {
    package let table: String
    package let hook: Chain.Hook
    package let base: String
    /// The base chain, or one that it went to.
    package let chain: String
    /// Its last rule, and why that did not hold; nil if it did, or there is none.
    package let rule: Rule?
    package let reason: String?
  }

  /// What happened, in order.
  package enum Event: Hashable, Sendable {
    case matched(Step)
    case ended(Miss)
  }

  private let tables: [Table]
  package private(set) var packet: Packet
  package private(set) var events: [Event] = []
  /// Where `redirect` or `tproxy` has sent the packet.
  package private(set) var captured: Target?
  /// The destination of a connection is decided once, by the first of the hooks where that is done
  /// (`nf_nat_initialized`).
  private var hasDestination = false

  /// Where a capture leads.
  package enum Target: Hashable, Sendable {
    case redirect(SocketAddress)
    case tproxy(SocketAddress)
  }

  /// - Parameter tables: in the order in which they were installed.
  package init(_ tables: [Table], _ packet: Packet) {
    self.tables = tables
    self.packet = packet
  }

  /// Takes the packet through the base chains of a hook, the lowest priority first.
  package mutating func pass(_ hook: Chain.Hook) -> End {
    for (table, chain, kind) in baseChains(at: hook) {
      if kind == .nat && hasDestination { continue }
      let end = run(table, chain, hook)
      if end != .accepted { return end }
    }
    if hook == .prerouting || hook == .output { hasDestination = true }
    return .accepted
  }

  /// A routing decision: where the packet leaves, or nil.
  package mutating func route(to output: String?) { packet.output = output }

  /// The packet comes back in by the loopback interface, marks and all, with its socket gone.
  package mutating func loopBack() {
    packet.input = .loopback
    packet.output = nil
    packet.user = nil
    packet.group = nil
    packet.controlGroups = []
  }

  // MARK: Walk

  /// Of equal ones the kernel calls the one that came last first (`nf_hook_entries_grow`).
  private func baseChains(at hook: Chain.Hook) -> [(Table, Chain, Chain.Kind)] {
    var found: [(priority: Int32, place: Int, Table, Chain, Chain.Kind)] = []
    for table in tables {
      for chain in table.chains {
        guard let base = chain.base, base.hook == hook else { continue }
        found.append((base.priority.rawValue, -found.count, table, chain, base.kind))
      }
    }
    return found.sorted { ($0.priority, $0.place) < ($1.priority, $1.place) }
      .map { ($0.2, $0.3, $0.4) }
  }

  /// What is left of a chain that called another.
  private struct Frame {
    let chain: Chain
    var next = 0
  }

  private mutating func run(_ table: Table, _ base: Chain, _ hook: Chain.Hook) -> End {
    func miss(_ chain: Chain, _ rule: Rule? = nil, _ reason: String? = nil) -> Miss {
      Miss(
        table: table.name, hook: hook, base: base.name, chain: chain.name, rule: rule,
        reason: reason)
    }
    var stack = [Frame(chain: base)]
    var last = miss(base)
    while var frame = stack.popLast() {
      guard frame.next < frame.chain.rules.count else { continue }
      let rule = frame.chain.rules[frame.next]
      frame.next += 1
      var reasons: [String] = []
      let effect = apply(rule, table, &reasons)
      if effect.holds {
        events.append(
          .matched(
            Step(
              table: table.name, hook: hook, base: base.name, chain: frame.chain.name, rule: rule,
              reasons: reasons)))
      }
      switch effect {
      case .misses(let reason):
        if stack.isEmpty { last = miss(frame.chain, rule, reason) }
        stack.append(frame)
      case .goesOn:
        if stack.isEmpty { last = miss(frame.chain) }
        stack.append(frame)
      case .ends(let end): return end
      case .verdict(.accept): return .accepted
      case .verdict(.drop): return .dropped
      case .verdict(.return):
        if stack.isEmpty { return .accepted }
      case .verdict(.jump(let name)):
        stack.append(frame)
        stack.append(Frame(chain: table.chain(name)))
      case .verdict(.goto(let name)):
        stack.append(Frame(chain: table.chain(name)))
      }
    }
    events.append(.ended(last))
    return .accepted
  }

  private enum Effect {
    case misses(String)
    /// Held, and decided nothing.
    case goesOn
    case ends(End)
    case verdict(Verdict)

    var holds: Bool {
      switch self {
      case .misses: false
      case .goesOn, .ends, .verdict: true
      }
    }
  }

  /// Expressions act in order: what stands before a match that fails is done all the same.
  private mutating func apply(
    _ rule: Rule, _ table: Table, _ reasons: inout [String]
  ) -> Effect {
    var effect = Effect.goesOn
    for expression in rule.expressions {
      if let outcome = expression.outcome(packet, table) {
        guard outcome.holds else { return .misses(outcome.reason) }
        reasons.append(outcome.reason)
      }
      switch expression {
      case .setMark(let assignment):
        packet[assignment.holder] =
          packet[assignment.holder] & ~assignment.mark.mask | assignment.mark.value
      case .redirect(let redirect): effect = .ends(translate(to: redirect.port))
      case .tproxy(let statement): captured = .tproxy(statement.listener)
      case .reject(let rejection): effect = .ends(.rejected(rejection))
      case .verdict(let verdict): effect = .verdict(verdict)
      case .interface, .interfaceGroup, .hardwareAddress, .owner, .controlGroup, .family,
        .transport, .port, .icmpType, .mark, .direction, .status, .flags, .address, .addressType,
        .socket:
        break
      }
    }
    return effect
  }

  /// Destination NAT to this host: loopback for its own packets, else an address of the interface
  /// where they arrived, for which the unspecified one stands here.
  private mutating func translate(to port: UInt16) -> End {
    let address: IPAddress =
      switch (packet.family, packet.input) {
      case (.v4, nil): .v4(.loopback)
      case (.v6, nil): .v6(.loopback)
      case (.v4, _?): .v4(.any)
      case (.v6, _?): .v6(.any)
      }
    captured = .redirect(SocketAddress(address, port))
    packet.destination = address
    packet.destinationType = .local
    if case .tcp(let source, _, let flags) = packet.transport {
      packet.transport = .tcp(source: source, destination: port, flags)
    }
    return .accepted
  }
}

extension Table {
  /// One that a rule names is there: the kernel would not have taken the rule.
  fileprivate func chain(_ name: String) -> Chain {
    guard let chain = chains.first(where: { $0.name == name }) else {
      preconditionFailure("no chain \(name) in \(self.name)")
    }
    return chain
  }
}
