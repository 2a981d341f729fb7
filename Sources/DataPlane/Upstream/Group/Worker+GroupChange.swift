internal import Addressing
internal import LinuxIO

/// Other upstreams under flows that are open. Those go on as they are; what has not found its way yet may find
/// it by the new list, and what waits for flows or queries is closed where none would be sent there any more.
extension Worker {
  /// The group of the configuration has taken the place of another.
  func adoptGroup(_ change: GroupChange) {
    let group = change.group
    sessionChoice.balance = group.balance
    associationChoice.balance = group.balance
    resolverChoice.balance = group.balance
    let upstreams = group.order.map { group.members[$0] }
    loops?.upstreams = upstreams
    datagramLoops?.upstreams = upstreams
    for member in group.members.indices where change.fresh.contains(member) {
      phases.clear(member)
    }
    adoptInPool(change)
    for index in sessions.indices where isOnItsWay(index) { redirectSession(index, change) }
    for index in datagrams.associations.slots.indices
    where datagrams.associations.slots[index].pointee.negotiation >= 0 {
      redirectAssociation(index, change)
    }
    datagrams.associations.move(change.destination)
    datagrams.nextAttempts.removeAll()
    for index in resolvers.all { moveResolver(index, to: group) }
  }

  /// Whether a session is captured and between its accept and its relay.
  private func isOnItsWay(_ index: Int) -> Bool {
    guard sessions[index].pointee.state != .vacant, sessions[index].pointee.negotiation >= 0,
      case .captured = sessions[index].pointee.origin
    else { return false }
    return true
  }

  /// Should its member let it down, it tries the others of the new list, and shows these who it is.
  private func redirectSession(_ index: Int, _ change: GroupChange) {
    let negotiation = negotiation(of: index)
    negotiation.allowed = change.destination(of: negotiation.allowed)
    guard negotiation.flow == nil, !change.group.attributes.isEmpty,
      case .captured(let destination) = sessions[index].pointee.origin,
      let client = sessions[index].pointee.downstream?.peerAddress?.unmapped
    else { return }
    negotiation.flow = identity(ofConnectionFrom: client, to: destination.address)
  }

  /// The same.
  private func redirectAssociation(_ index: Int, _ change: GroupChange) {
    let association = datagrams.associations.slots[index]
    let negotiation = negotiations[Int(association.pointee.negotiation)]
    negotiation.allowed = change.destination(of: negotiation.allowed)
    guard negotiation.flow == nil, !change.group.attributes.isEmpty else { return }
    negotiation.flow = identity(
      ofDatagramsFrom: association.pointee.client, to: association.pointee.destination)
  }

  /// A connection that no new query would take is closed; what was asked on it is asked again on the next.
  private func moveResolver(_ index: Int, to group: UpstreamGroup) {
    let connection = resolvers[index]
    connection.negotiation.tried = MemberSet()
    guard connection.state != .closed,
      !group.standard.contains(connection.negotiation.member)
    else { return }
    abandon(connection)
    driveResolver(index)
  }

  // MARK: Who is in use

  /// The members that anything here goes through, or may still go through by what was decided for it.
  var membersInUse: MemberSet {
    var members = MemberSet()
    func add(_ negotiation: Negotiation) {
      members.insert(negotiation.member)
      members.formUnion(negotiation.allowed)
      members.formUnion(negotiation.tried)
    }
    for index in sessions.indices where sessions[index].pointee.state != .vacant {
      guard case .captured = sessions[index].pointee.origin else { continue }
      switch sessions[index].pointee.state {
      case .relaying, .protected: members.insert(Int(sessions[index].pointee.member))
      default: break
      }
      guard sessions[index].pointee.negotiation >= 0 else { continue }
      let negotiation = negotiation(of: index)
      add(negotiation)
      for number in negotiation.contenders {
        add(negotiations[Int(contenders[Int(number)].pointee.negotiation)])
      }
    }
    for index in datagrams.associations.slots.indices {
      let association = datagrams.associations.slots[index]
      guard association.pointee.state != .vacant else { continue }
      members.insert(Int(association.pointee.member))
      members.formUnion(association.pointee.members)
      if association.pointee.negotiation >= 0 {
        add(negotiations[Int(association.pointee.negotiation)])
      }
    }
    for index in resolvers.all where resolvers[index].state != .closed {
      add(resolvers[index].negotiation)
    }
    return members
  }
}
