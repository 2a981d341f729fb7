internal import Addressing
internal import LinuxIO
internal import SOCKS

/// Associations through a chain of upstreams, up to the moment from which they are as any other, and
/// their control connections after it.
extension Worker {
  /// Starts all control connections of an association; false if it has failed by that.
  /// - Parameter chosen: says of which flow it is, and through which member of the group.
  func beginNested(_ index: Int, _ upstream: Upstream, _ chosen: Negotiation) -> Bool {
    let legs = (0..<upstream.hopCount).map { hop in
      let negotiation = negotiations.take()
      negotiations[Int(negotiation)].flow = chosen.flow
      negotiations[Int(negotiation)].member = chosen.member
      return NestedAssociation.Leg(hop: hop, negotiation: negotiation)
    }
    let nested = NestedAssociation(legs, connectDeadline: chosen.connectDeadline)
    datagrams.associations.slots[index].pointee.nested = nested
    return connectLegs(of: index, nested, to: upstream)
  }

  /// Starts what has not been started of an association's control connections, or waits for room in the
  /// upstream's queue; false if the association has failed by that.
  private func connectLegs(
    of index: Int, _ nested: NestedAssociation, to upstream: Upstream
  ) -> Bool {
    let generation = datagrams.associations.slots[index].pointee.generation
    datagrams.timers.schedule(index, at: nested.connectDeadline)
    for leg in nested.legs where leg.control == nil {
      do {
        guard let socket = try connect(to: upstream) else {
          datagrams.timers.schedule(index, at: min(nested.connectDeadline, nextUpstreamAttempt))
          return true
        }
        socket.keepAlive()
        try epoll.add(
          socket.rawValue, [.readable, .writable, .edgeTriggered],
          token: Token(legTo: leg.hop, ofAssociation: index, generation: generation).rawValue)
        leg.control = consume socket
      } catch {
        return retryAssociation(index, after: Failure(connecting: error))
      }
    }
    return true
  }

  func handleConnectTimeout(of index: Int, _ nested: NestedAssociation) {
    let upstream = member(of: datagrams.associations.slots[index])
    if now < nested.connectDeadline, let upstream {
      _ = connectLegs(of: index, nested, to: upstream)
    } else {
      _ = retryAssociation(index, after: .connectTimeout)
    }
  }

  /// Tells of the first hop that owes an answer, on the shortest of the ways that lead to it.
  func handleHandshakeTimeout(of index: Int, _ nested: NestedAssociation) {
    guard let leg = nested.legs.first(where: { $0.state != .open }) else {
      preconditionFailure("an association that is not open though all of it is")
    }
    let negotiation = negotiations[Int(leg.negotiation)]
    doubtPipelining(of: negotiation, after: .handshakeTimeout)
    _ = retryAssociation(index, after: .handshakeTimeout, hop: negotiation.hop)
  }

  func releaseNegotiations(of nested: NestedAssociation) {
    for leg in nested.legs { releaseNegotiation(&leg.negotiation) }
  }

  // MARK: Control connections

  func handleLeg(_ token: Token, _ readiness: Readiness) {
    let (hop, token) = token.leg
    guard let association = datagrams.associations.slots.find(token),
      let nested = association.pointee.nested
    else { return }
    let leg = nested.legs[hop]
    leg.readiness.formUnion(readiness)
    switch leg.state {
    case .connecting: driveConnecting(leg, of: token.index, nested)
    case .handshaking: driveHandshaking(leg, of: token.index, nested)
    case .open: watch(leg, of: token.index)
    }
  }

  private func driveConnecting(
    _ leg: NestedAssociation.Leg, of index: Int, _ nested: NestedAssociation
  ) {
    if !leg.readiness.isDisjoint(with: [.error, .hangUp]) {
      let error = leg.control?.pendingError ?? .connectionReset
      _ = retryAssociation(index, after: Failure(connecting: error))
    } else if leg.readiness.contains(.writable) {
      leg.state = .handshaking
      let negotiation = negotiations[Int(leg.negotiation)]
      let upstream = member(of: negotiation)
      negotiation.startClient(
        .udpAssociate, to: upstream.associationRequest(atHop: leg.hop), at: upstream, hop: leg.hop)
      if nested.legs.allSatisfy({ $0.state != .connecting }) {
        datagrams.associations.slots[index].pointee.state = .handshaking
        datagrams.timers.schedule(index, at: now + associatingTimeout)
      }
      driveHandshaking(leg, of: index, nested)
    }
  }

  private func driveHandshaking(
    _ leg: NestedAssociation.Leg, of index: Int, _ nested: NestedAssociation
  ) {
    guard let socket = leg.control?.rawValue else {
      preconditionFailure("a handshake without a connection")
    }
    let negotiation = negotiations[Int(leg.negotiation)]
    switch negotiation.advanceAsClient(on: socket, &leg.readiness, with: resources.scratch) {
    case .waiting: return
    case .stepping: preconditionFailure("GSSAPI in a chain")
    case .established: complete(leg, of: index, nested)
    case .failed(let failure):
      let reason = Failure(failure, of: negotiation)
      doubtPipelining(of: negotiation, after: reason)
      if negotiation.isAtLastHop { handleRefusal(failure, by: negotiation.part) }
      fail(index, reason, hop: negotiation.hop)
    }
  }

  private func complete(
    _ leg: NestedAssociation.Leg, of index: Int, _ nested: NestedAssociation
  ) {
    let (reported, port) = negotiations[Int(leg.negotiation)].bound
    let upstream = member(of: negotiations[Int(leg.negotiation)])
    func place(_ prefersControl: Bool) -> Endpoint? {
      relayPlace(
        ofHop: leg.hop, of: upstream, reported, port: port, prefersControl: prefersControl)
    }
    let prefersControl = upstream.relayIsAtControlAddress
    guard let relay = place(prefersControl) else {
      fail(index, .protocolViolation, hop: leg.hop)
      return
    }
    releaseNegotiation(&leg.negotiation)
    leg.relay = relay
    leg.isRelayUncertain = relay != place(!prefersControl)
    leg.state = .open
    if nested.isComplete { open(nested, of: index) } else { watch(leg, of: index) }
  }

  /// Where the relay of a hop is: that of the first always at an address.
  private func relayPlace(
    ofHop hop: Int, of upstream: Upstream, _ reported: Endpoint?, port: UInt16,
    prefersControl: Bool
  ) -> Endpoint? {
    guard let plan = configuration.datagrams else {
      preconditionFailure("an association without a plan for datagrams")
    }
    if hop > 0 {
      return plan.relayPlace.resolve(
        reported: reported, port: port, hop: upstream.further[hop - 1].endpoint,
        prefersControl: prefersControl)
    }
    return plan.relayPlace.resolve(
      reported: reported, port: port, control: upstream.place.control,
      prefersControl: prefersControl
    ).map { .address($0) }
  }

  private func open(_ nested: NestedAssociation, of index: Int) {
    guard case .address(let first)? = nested.legs[0].relay else {
      preconditionFailure("a first hop without a relay")
    }
    let association = datagrams.associations.slots[index]
    configuration.group?.bringBack(Int(association.pointee.member))
    releaseNegotiation(&association.pointee.negotiation)
    nested.makeHeaders()
    let isUncertain = nested.legs.contains(where: \.isRelayUncertain)
    guard openRelay(of: index, at: first, isUncertain: isUncertain) else { return }
    let token = Token(
      .associationControl, index: index, generation: association.pointee.generation)
    for leg in nested.legs where datagrams.associations.slots.find(token) != nil {
      watch(leg, of: index)
    }
  }

  /// Nothing is to be said on a connection that is open any more: its end is the association's.
  private func watch(_ leg: NestedAssociation.Leg, of index: Int) {
    guard let socket = leg.control?.rawValue else { return }
    var isOver = !leg.readiness.isDisjoint(with: [.error, .hangUp])
    while !isOver, leg.readiness.contains(.readable) {
      switch receive(socket, into: resources.scratch) {
      case .bytes(0), .failed: isOver = true
      case .bytes: continue
      case .wouldBlock: leg.readiness.remove(.readable)
      }
    }
    guard isOver else { return }
    if datagrams.associations.slots[index].pointee.state == .open {
      endByUpstream(index)
    } else {
      fail(index, .closedInReply, hop: leg.hop)
    }
  }

  /// Fails an association at a hop that was reached, though other legs may still be connecting.
  private func fail(_ index: Int, _ failure: Failure, hop: Int) {
    datagrams.associations.slots[index].pointee.state = .handshaking
    _ = retryAssociation(index, after: failure, hop: hop)
  }
}
