internal import Addressing
internal import LinuxIO
internal import SOCKS

/// What the rules say of captured flows.
extension Worker {
  func verdict(
    of policy: Policy, on transport: FlowIdentifier.Transport, from client: SocketAddress,
    to destination: SocketAddress
  ) -> Policy.Verdict {
    policy.verdict(on: transport, from: client.address, to: destination) {
      user(of: transport == .tcp ? .stream : .datagrams, client, destination)
    } name: {
      configuration.names?[destination.address]
    }
  }

  /// What the rules say of datagrams. Where that takes asking, it is asked once in a while for each pair of
  /// a client and a destination.
  func datagramVerdict(
    of policy: Policy, from client: SocketAddress, to destination: SocketAddress
  ) -> Policy.Verdict {
    guard policy.concernsUsers || policy.concernsNames else {
      return verdict(of: policy, on: .udp, from: client, to: destination)
    }
    if let known = datagrams.verdicts.find(client, destination, now: now) { return known }
    let verdict = verdict(of: policy, on: .udp, from: client, to: destination)
    datagrams.verdicts.note(verdict, client, destination, now: now)
    return verdict
  }

  /// Who has a client's socket; nil if that is not of this host, or is gone.
  private func user(
    of transport: SocketDiagnosis.Transport, _ client: SocketAddress, _ destination: SocketAddress
  ) -> UInt32? {
    switch configuration.owners {
    case .unknown: nil
    case .fixed(let owner): owner.user
    case .bySocket: socketOwners?.owner(of: transport, at: client, to: destination)?.user
    }
  }

  /// What was decided by the former rules is told by those of the same names.
  func adoptRules(after former: Policy?) {
    if socketOwners == nil { socketOwners = (try? configuration.makeSocketOwners()) ?? nil }
    datagrams.verdicts.removeAll()
    guard let former else { return }
    func renumbered(_ rule: RuleNumber) -> RuleNumber {
      former.name(of: rule).flatMap { configuration.policy?.number(ofRule: $0) } ?? .none
    }
    for index in sessions.indices {
      sessions[index].pointee.rule = renumbered(sessions[index].pointee.rule)
    }
    for index in datagrams.associations.slots.indices {
      let association = datagrams.associations.slots[index]
      association.pointee.rule = renumbered(association.pointee.rule)
    }
  }

  /// Starts a captured connection to where it wanted to go, past all upstreams.
  func beginDirect(
    _ socket: consuming Descriptor, to destination: OriginalDestination, by rule: RuleNumber
  ) {
    let origin = Session.Origin.forwarded(to: destination.address, .outward)
    guard let index = openSession(socket, origin: origin) else { return }
    sessions[index].pointee.rule = rule
    negotiation(of: index).candidates = [destination.address]
    connectNext(index, after: nil)
  }
}
