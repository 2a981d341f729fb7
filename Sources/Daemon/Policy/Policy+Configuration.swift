internal import Configuration
internal import DataPlane
internal import LinuxIO

// From rules as they are written to those that flows are held against.

extension Policy {
  /// With the members of the group as they are listed. Nil where there are no rules. Users are looked up by
  /// their names.
  convenience init?(_ configuration: Configuration) throws(CommandFailure) {
    try self.init(configuration, UpstreamRoster(configuration.upstreams))
  }

  /// The same.
  /// - Parameter roster: where the upstreams of these settings are.
  convenience init?(
    _ configuration: Configuration, _ roster: UpstreamRoster
  ) throws(CommandFailure) {
    guard !configuration.rules.isEmpty else { return nil }
    var rules: [Rule] = []
    for rule in configuration.rules { rules.append(try Rule(rule, roster)) }
    self.init(rules, standard: roster.members(configuration.upstreams.defaults))
  }
}

extension Policy.Rule {
  fileprivate init(
    _ rule: PolicyRule, _ roster: UpstreamRoster
  ) throws(CommandFailure) {
    self.init(rule.name, Policy.Decision(rule.target, roster))
    transport =
      switch (rule.concerns(.tcp), rule.concerns(.udp)) {
      case (true, false): .tcp
      case (false, true): .udp
      case (true, true), (false, false): nil
      }
    ports = RangeSet(rule.ports)
    addresses = AddressSet(rule.addresses)
    sources = AddressSet(rule.sources)
    var users: [ClosedRange<UInt32>] = []
    for identity in rule.users {
      users.append(try Scope.numbers(identity, "user", Accounts.user))
    }
    self.users = RangeSet(users)
    names = NameSet(
      rule.names.filter { !$0.isBelow }.map(\.name),
      below: rule.names.filter(\.isBelow).map(\.name))
  }
}

extension Policy.Decision {
  fileprivate init(_ target: PolicyRule.Target, _ roster: UpstreamRoster) {
    let upstreams = roster.selection
    self =
      switch target {
      case .standard: .upstreams(roster.members(upstreams.defaults))
      case .upstream(let name): .upstreams(roster.members(upstreams.members(named: name)))
      case .direct: .direct
      case .reject: .reject
      }
  }
}
