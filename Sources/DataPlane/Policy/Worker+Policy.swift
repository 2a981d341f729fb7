internal import Addressing
internal import LinuxIO
internal import SOCKS

/// What the rules say of captured flows.
extension Worker {
  func verdict(
    of policy: Policy, on transport: SocketOwners.Transport, from client: SocketAddress,
    to destination: SocketAddress
  ) -> Policy.Verdict {
    policy.verdict(from: client.address, to: destination) {
      user(of: transport, client, destination)
    } name: {
      configuration.names?[destination.address]
    }
  }

  /// Who has a client's socket; nil if that is not of this host, or is gone.
  private func user(
    of transport: SocketOwners.Transport, _ client: SocketAddress, _ destination: SocketAddress
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
    guard let former else { return }
    func renumbered(_ rule: RuleNumber) -> RuleNumber {
      former.name(of: rule).flatMap { configuration.policy?.number(ofRule: $0) } ?? .none
    }
    for index in sessions.indices {
      sessions[index].pointee.rule = renumbered(sessions[index].pointee.rule)
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
