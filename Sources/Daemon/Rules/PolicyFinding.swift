internal import Addressing
internal import Configuration
internal import DataPlane
internal import NFTables

/// What the rules of the user's say of a captured flow, as far as its packet tells.
struct PolicyFinding {
  /// The rule that decides as it is written, with its name; nil where none holds.
  let rule: String?
  /// Rules before it that would decide if the destination's address was looked up by one of their names.
  let possible: [String]
  let decision: Policy.Decision

  /// Nil where there are no rules, or they are not asked about such a flow.
  init?(_ configuration: Configuration, _ flow: Flow, _ packet: Packet) throws(CommandFailure) {
    let transport: FlowIdentifier.Transport
    switch flow.transport {
    case .tcp: transport = .tcp
    case .udp: transport = .udp
    case .icmp: return nil
    }
    guard let policy = try Policy(configuration) else { return nil }
    // Such queries go through the standard upstreams, if anywhere.
    let isQuery = transport == .udp && flow.port == 53 && configuration.dns != .off
    let destination = SocketAddress(flow.destination, flow.port)
    var possible: [String] = []
    for (index, rule) in policy.rules.enumerated()
    where rule.matches(transport, from: packet.source, to: destination) {
      guard rule.users.isEmpty || packet.user.map(rule.users.contains) == true else { continue }
      guard rule.names.isEmpty else {
        possible.append(rule.name)
        continue
      }
      if isQuery, rule.decision != .reject { break }
      self.rule = "\(rule.name): \(configuration.rules[index].text)"
      self.possible = possible
      decision = rule.decision
      return
    }
    rule = nil
    self.possible = possible
    decision = .upstreams(policy.standard)
  }
}
