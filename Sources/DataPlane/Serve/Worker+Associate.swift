internal import Addressing
internal import LinuxIO
internal import SOCKS

/// UDP ASSOCIATE of the embedded server (RFC 1928, section 7): the control connection, from the request
/// to the end of the association, which is its own end.
///
/// An association lives as long as its control connection, which is probed when it is silent, so that
/// neither outlives the client's host; and without a datagram either way no longer than `Timeouts.idle`.
extension Worker {
  /// After how many silent seconds the client's host is probed.
  private static let controlKeepAliveSeconds: Int32 = 60
  /// Reads from a control connection per turn at most: a client has nothing to say there.
  private static let discardedReadsPerTurn = 4

  /// Opens the relay. Its descriptor is the second of its session; a first exit is set aside, so that
  /// what is promised here can be kept.
  func associate(_ index: Int, declared: Endpoint) {
    let session = sessions[index]
    guard budget.take(1) else {
      refuse(index, .resourcesExhausted, .generalFailure)
      return
    }
    guard let association = openAssociation(index, declared: declared) else {
      budget.giveBack(1)
      refuse(index, .resourcesExhausted, .generalFailure)
      return
    }
    association.exitDescriptors = 1
    session.pointee.association = association
    if !isInner(session) { counters.add(to: .associationsOpened) }
    session.pointee.downstream?.keepAlive(afterSeconds: Self.controlKeepAliveSeconds)
    session.pointee.state = .associated
    session.pointee.lastActivity = now
    timers.schedule(index, at: now + configuration.timeouts.idle)
    negotiation(of: index).replyAsServer(.succeeded, bound: association.bound)
    driveAssociated(index)
  }

  private func openAssociation(_ index: Int, declared: Endpoint) -> ServedAssociation? {
    let session = sessions[index]
    let token = Token(.servedRelay, index: index, generation: session.pointee.generation)
    guard let local = session.pointee.downstream?.localAddress,
      let peer = session.pointee.downstream?.peerAddress
    else { return nil }
    do {
      let association = try ServedAssociation(
        local: local.address, host: peer.address, declared: declared, mark: configuration.mark)
      try epoll.add(association.relay.rawValue, .readable, token: token.rawValue)
      return association
    } catch {
      return nil
    }
  }

  /// Sends the reply, then watches for the end; what the client says meanwhile is nobody's.
  func driveAssociated(_ index: Int) {
    let session = sessions[index]
    if session.pointee.negotiation >= 0 {
      guard flushToClient(index) else { return }
      if negotiation(of: index).unsent.isEmpty { releaseNegotiation(&session.pointee.negotiation) }
    }
    guard let socket = session.pointee.downstream?.rawValue else {
      preconditionFailure("an association without a client")
    }
    var share = Self.discardedReadsPerTurn
    while session.pointee.downstreamReadiness.contains(.readable) {
      guard share > 0 else {
        enqueue(index)
        return
      }
      share -= 1
      switch receive(socket, into: resources.scratch) {
      case .bytes(0):
        close(index)
        return
      case .bytes: continue
      case .wouldBlock: session.pointee.downstreamReadiness.remove(.readable)
      case .failed:
        fail(index, .resetByDownstream)
        return
      }
    }
  }

  func handleServedTimeout(_ index: Int) {
    // Datagrams that came since the deadline was set only put it off.
    let deadline = sessions[index].pointee.lastActivity + configuration.timeouts.idle
    if deadline > now {
      timers.schedule(index, at: deadline)
    } else {
      fail(index, .idleTimeout)
    }
  }

  /// Gives back what the association of a session that ends has had; its sockets go with it.
  func releaseServed(_ session: UnsafeMutablePointer<Session>) {
    guard let association = session.pointee.association else { return }
    if !isInner(session) { counters.add(to: .associationsClosed) }
    counters.add(.evicted, count: association.names.waitingCount)
    budget.giveBack(association.exitDescriptors)
  }
}
