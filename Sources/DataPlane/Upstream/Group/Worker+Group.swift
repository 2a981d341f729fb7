internal import Addressing
internal import LinuxIO

/// Which upstream of the group a flow goes through, and the next one after a failure. Until the tunnel
/// stands nothing is read from the application, so that nothing of it is lost by going another way.
extension Worker {
  /// The upstream that a negotiation is with.
  func member(of negotiation: Negotiation) -> Upstream {
    guard let group = configuration.group else {
      preconditionFailure("a captured flow without an upstream")
    }
    return group.members[negotiation.member]
  }

  /// The upstream that an association is with.
  func member(of association: UnsafeMutablePointer<Association>) -> Upstream? {
    configuration.group?.members[Int(association.pointee.member)]
  }

  /// Has a flow go through a member that it has not been with, one that lives if there is one; false if it
  /// has been with all of them.
  /// - Parameter able: those that may and can carry it.
  func choose(
    for negotiation: Negotiation, among able: MemberSet, of group: UpstreamGroup,
    by choice: inout MemberChoice
  ) -> Bool {
    let untried = able.subtracting(negotiation.tried)
    let alive = untried.intersection(group.alive)
    guard
      let member = choice.next(
        of: alive.isEmpty ? untried : alive, key: negotiation.key, group.ranking)
    else { return false }
    negotiation.member = member
    negotiation.tried.insert(member)
    return true
  }

  /// Takes a failure for what it says of a member.
  /// - Returns: whether another one may do better.
  func noteFailure(_ failure: Failure, of member: Int, in group: UpstreamGroup) -> Bool {
    switch failure.blame {
    case .member: group.takeOut(member, after: failure)
    case .doubt: group.doubt(member)
    case .flow: break
    case .nobody: return false
    }
    return true
  }

  // MARK: Connections

  /// A captured session does not get through the member that it is with: it begins anew with the next, or
  /// ends.
  func failAttempt(_ index: Int, _ failure: Failure) {
    let negotiation = negotiation(of: index)
    guard let group = configuration.group, group.hasOthers(than: negotiation.member),
      case .captured(let destination) = sessions[index].pointee.origin
    else {
      fail(index, failure)
      return
    }
    let able = group.able(
      negotiation.allowed, toReachIPv4: destination.address.address.isIPv4)
    guard noteFailure(failure, of: negotiation.member, in: group),
      negotiation.earlyCount == 0 || failure.isRefusal,
      choose(for: negotiation, among: able, of: group, by: &sessionChoice)
    else {
      fail(index, failure)
      return
    }
    counters.add(to: .handshakesRetried)
    negotiation.deadAge = nil
    beginAnew(index)
  }

  /// Has a captured session leave its connection, and begin with the member that it is with now.
  func beginAnew(_ index: Int) {
    sessions[index].pointee.upstream = nil
    sessions[index].pointee.upstreamReadiness = []
    negotiation(of: index).restart()
    do {
      try renewTokens(of: index)
    } catch {
      fail(index, .resourcesExhausted)
      return
    }
    beginConnecting(index)
  }

  /// Has events and steps of a session's former upstream find nobody.
  private func renewTokens(of index: Int) throws(Errno) {
    let session = sessions[index]
    session.pointee.generation &+= 1
    session.pointee.isQueued = false
    guard let downstream = session.pointee.downstream?.rawValue else { return }
    try epoll.modify(
      downstream, [.readable, .writable, .edgeTriggered],
      token: Token(.downstream, index: index, generation: session.pointee.generation).rawValue)
  }

  /// When a handshake that begins now is looked at next.
  func beginHandshakeTiming(_ negotiation: Negotiation) -> Instant {
    negotiation.handshakeDeadline = now + configuration.timeouts.handshake
    return nextLook(at: negotiation)
  }

  /// With a choice that is soon: a server that has died since the connection was made says nothing.
  private func nextLook(at negotiation: Negotiation) -> Instant {
    guard configuration.group?.isPlural == true else { return negotiation.handshakeDeadline }
    return min(now + configuration.timeouts.connect, negotiation.handshakeDeadline)
  }

  func handleHandshakeTimeout(_ index: Int) {
    let negotiation = negotiation(of: index)
    guard now < negotiation.handshakeDeadline else {
      failHandshake(index, .handshakeTimeout)
      return
    }
    if let next = patience(with: negotiation) {
      timers.schedule(index, at: next)
    } else {
      failHandshake(index, .handshakeTimeout)
    }
  }

  /// When to look at a silent handshake again; nil if there is nothing to be hoped for. A server that owes
  /// more than the reply, which has to wait for nobody, is down; one that owes just that is asked whether
  /// it lives.
  private func patience(with negotiation: Negotiation) -> Instant? {
    guard let group = configuration.group else { return nil }
    guard negotiation.awaitsDestination else {
      group.takeOut(negotiation.member, after: .handshakeTimeout)
      return nil
    }
    guard !group.isDown(negotiation.member) else { return nil }
    group.doubt(negotiation.member)
    return nextLook(at: negotiation)
  }

  // MARK: Associations

  /// How long an upstream may take to make an association: it has to wait for nobody, so that with a
  /// choice one that takes longer than a connection is taken for dead.
  var associatingTimeout: Timeout {
    let timeouts = configuration.timeouts
    guard configuration.group?.isPlural == true else { return timeouts.handshake }
    return min(timeouts.connect, timeouts.handshake)
  }

  /// An association does not get through the member that it is with: it begins anew with the next, and what
  /// waits for it goes on waiting. False if it has ended instead.
  /// - Parameter hop: of a chain, counted from 0, the one that it failed at.
  func retryAssociation(_ index: Int, after failure: Failure, hop: Int = 0) -> Bool {
    let association = datagrams.associations.slots[index]
    let negotiation = negotiations[Int(association.pointee.negotiation)]
    guard let group = configuration.group, group.hasOthers(than: negotiation.member),
      noteFailure(failure, of: negotiation.member, in: group),
      choose(
        for: negotiation, among: group.relaying(negotiation.allowed), of: group,
        by: &associationChoice)
    else {
      failAssociation(index, failure, hop: hop)
      return false
    }
    counters.add(to: .handshakesRetried)
    if let nested = association.pointee.nested { releaseNegotiations(of: nested) }
    association.pointee.nested = nil
    association.pointee.control = nil
    association.pointee.controlReadiness = []
    // Events and steps of the former connection find nobody.
    association.pointee.generation &+= 1
    negotiation.restart()
    return beginControl(of: index)
  }

  // MARK: Resolvers

  /// Chooses the upstream for a resolver's next connection: one by one until a connection is made, and
  /// then over again.
  func chooseMember(for connection: ResolverConnection) {
    guard let group = configuration.group else { return }
    let (negotiation, resolver) = (connection.negotiation, connection.resolver)
    guard group.isPlural else {
      negotiation.member = group.first
      return
    }
    negotiation.key = group.key(of: resolver, to: resolver)
    let able = group.able(group.standard, toReachIPv4: resolver.address.isIPv4)
    if choose(for: negotiation, among: able, of: group, by: &resolverChoice) { return }
    negotiation.tried = MemberSet()
    _ = choose(for: negotiation, among: able, of: group, by: &resolverChoice)
  }

  /// A connection to a resolver was not made. Its time is short: that it took longer proves nothing.
  func noteFailure(_ failure: Failure, of connection: ResolverConnection) {
    guard let group = configuration.group else { return }
    let member = connection.negotiation.member
    if failure == .connectTimeout {
      group.doubt(member)
    } else {
      _ = noteFailure(failure, of: member, in: group)
    }
  }
}

extension UpstreamGroup {
  /// Whether a flow may try another member than the one that it is with.
  func hasOthers(than member: Int) -> Bool { isPlural || !listed.contains(member) }

  /// What a member is chosen by where the same flows go the same way.
  func key(of client: SocketAddress, to destination: SocketAddress) -> UInt64 {
    switch balance {
    case .hash: MemberChoice.key(of: client.address)
    case .hashDestination: MemberChoice.key(of: destination.address)
    case .failover, .roundRobin, .fastest, .race: 0
    }
  }
}

extension MemberChoice {
  /// Equal for equal addresses.
  static func key(of address: IPAddress) -> UInt64 {
    switch address {
    case .v4(let address): mixed(UInt64(address.bits))
    case .v6(let address): mixed(mixed(address.high) ^ address.low)
    }
  }
}
