package import Addressing

/// Rules about captured flows: the first of which all conditions hold decides over one. Evaluated without
/// allocations, and what has to be asked for is asked only where the rest of a rule holds, once for each flow.
package final class Policy: Sendable {
  package enum Decision: Hashable, Sendable {
    /// Through one of these.
    case upstreams(MemberSet)
    /// From here straight to where it goes.
    case direct
    /// Nowhere: it is reset.
    case reject
  }

  /// Where a condition is empty, every flow fulfils it.
  package struct Rule: Hashable, Sendable {
    package let name: String
    /// Nil: both.
    package var transport: FlowIdentifier.Transport?
    package var ports = RangeSet<UInt16>([])
    package var addresses = AddressSet([])
    package var sources = AddressSet([])
    package var users = RangeSet<UInt32>([])
    /// By which the destination's address was looked up.
    package var names = NameSet()
    package let decision: Decision

    package init(_ name: String, _ decision: Decision) {
      self.name = name
      self.decision = decision
    }

    /// What can be said without asking anybody.
    package func matches(
      _ transport: FlowIdentifier.Transport, from client: IPAddress,
      to destination: SocketAddress
    ) -> Bool {
      (self.transport == nil || self.transport == transport)
        && (ports.isEmpty || ports.contains(destination.port))
        && (addresses.isEmpty || addresses.contains(destination.address))
        && (sources.isEmpty || sources.contains(client))
    }
  }

  /// What decides over a flow, and how.
  package struct Verdict: Hashable, Sendable {
    package let decision: Decision
    /// `none` where no rule holds.
    package let rule: RuleNumber
  }

  package static let maximumRules = 255

  package let rules: [Rule]
  /// Of flows for which no rule holds.
  package let standard: MemberSet
  /// Whether a rule asks who has a flow's socket.
  package let concernsUsers: Bool
  /// Whether a rule asks for names.
  package let concernsNames: Bool

  /// - Parameters:
  ///   - rules: at most `maximumRules`; those to `direct` are of TCP alone.
  ///   - standard: the upstreams of flows for which none holds.
  package init(_ rules: [Rule], standard: MemberSet) {
    precondition(rules.count <= Self.maximumRules)
    precondition(rules.allSatisfy { $0.decision != .direct || $0.transport == .tcp })
    self.rules = rules
    self.standard = standard
    concernsUsers = rules.contains { !$0.users.isEmpty }
    concernsNames = rules.contains { !$0.names.isEmpty }
  }

  /// - Parameters:
  ///   - user: who has the client's socket; nil if that is not known.
  ///   - name: by which the destination's address was looked up; nil if that is not known.
  package func verdict(
    on transport: FlowIdentifier.Transport, from client: IPAddress,
    to destination: SocketAddress, user: () -> UInt32?, name: () -> String?
  ) -> Verdict {
    var (knownUser, knownName): (UInt32??, String??) = (nil, nil)
    for index in rules.indices
    where rules[index].matches(transport, from: client, to: destination) {
      if !rules[index].users.isEmpty {
        let found = knownUser ?? user()
        knownUser = .some(found)
        guard let found, rules[index].users.contains(found) else { continue }
      }
      if !rules[index].names.isEmpty {
        let found = knownName ?? name()
        knownName = .some(found)
        guard let found, rules[index].names.contains(found) else { continue }
      }
      return Verdict(decision: rules[index].decision, rule: RuleNumber(index))
    }
    return Verdict(decision: .upstreams(standard), rule: .none)
  }

  /// The upstreams that datagrams may go through.
  package var datagramMembers: MemberSet {
    var members = standard
    for rule in rules where rule.transport != .tcp {
      if case .upstreams(let some) = rule.decision { members.formUnion(some) }
    }
    return members
  }

  /// Nil if there is none of this name.
  func number(ofRule name: String) -> RuleNumber? {
    rules.firstIndex { $0.name == name }.map(RuleNumber.init)
  }

  /// Nil for none.
  package func name(of rule: RuleNumber) -> String? {
    rule.index.flatMap { rules.indices.contains($0) ? rules[$0].name : nil }
  }
}

/// Which rule of a policy has decided over a flow, in one byte, since every session has one.
package struct RuleNumber: Hashable, Sendable {
  package static let none = RuleNumber(value: 0)

  private let value: UInt8

  private init(value: UInt8) { self.value = value }

  init(_ index: Int) { value = UInt8(index + 1) }

  /// Nil for none.
  package var index: Int? { value == 0 ? nil : Int(value) - 1 }
}
