internal import Addressing
internal import LinuxIO
internal import SOCKS

/// The life of associations: from a client's first datagram, through UDP ASSOCIATE, to their end.
extension Worker {
  /// What may wait to be received from a relay: a burst of a thousand small datagrams.
  private static let receiveBytes: Int32 = 1 << 20
  /// How long nothing is attempted after an upstream could not be connected to: every datagram would be
  /// another attempt.
  private static let pauseAfterFailure = Timeout(milliseconds: 200)

  /// The association of a client, a new one if there is none; nil if the upstream takes no datagrams or
  /// there is no room.
  /// - Parameters:
  ///   - members: those of the upstreams that it may go through.
  ///   - rule: which has decided that.
  func findAssociation(
    of client: SocketAddress, to destination: SocketAddress, among members: MemberSet,
    by rule: RuleNumber
  ) -> Int? {
    if let index = datagrams.associations.find(client, members) { return index }
    guard let group = configuration.group, group.datagramAbility(of: members) != .refuses,
      mayAttempt(members), !goesRound(client, to: OriginalDestination(destination)),
      makeRoom(for: client.address)
    else { return nil }
    let index = datagrams.associations.add(client, members)
    counters.add(to: .associationsOpened)
    let association = datagrams.associations.slots[index]
    association.pointee.descriptorCount = UInt8(configuration.descriptorsPerAssociation)
    association.pointee.lastActivity = now
    association.pointee.opened = now
    association.pointee.destination = destination
    association.pointee.rule = rule
    association.pointee.negotiation = negotiations.take()
    let negotiation = negotiations[Int(association.pointee.negotiation)]
    negotiation.flow = identity(ofDatagramsFrom: client, to: destination)
    negotiation.allowed = members
    if group.isPlural {
      negotiation.key = group.key(of: client, to: destination)
      _ = choose(
        for: negotiation, among: group.relaying(members), of: group, by: &associationChoice)
    } else {
      negotiation.member = group.first
    }
    return beginControl(of: index) ? index : nil
  }

  private func mayAttempt(_ members: MemberSet) -> Bool {
    datagrams.nextAttempts.isEmpty || datagrams.nextAttempts[members].map { $0 <= now } ?? true
  }

  /// Starts an association's way through the upstream that was chosen for it; false if it has failed by
  /// that.
  func beginControl(of index: Int) -> Bool {
    let association = datagrams.associations.slots[index]
    association.pointee.state = .connecting
    let negotiation = negotiations[Int(association.pointee.negotiation)]
    negotiation.connectDeadline = now + configuration.timeouts.connect
    association.pointee.member = UInt8(negotiation.member)
    let upstream = member(of: negotiation)
    if !upstream.further.isEmpty { return beginNested(index, upstream, negotiation) }
    return connectControl(of: index, to: upstream)
  }

  /// Starts an association's control connection, or waits for room in the upstream's queue; false if
  /// the association has failed by that.
  private func connectControl(of index: Int, to upstream: Upstream) -> Bool {
    let association = datagrams.associations.slots[index]
    let deadline = negotiations[Int(association.pointee.negotiation)].connectDeadline
    do {
      guard let socket = try connect(to: upstream) else {
        datagrams.timers.schedule(index, at: min(deadline, nextUpstreamAttempt))
        return true
      }
      socket.keepAlive()
      try epoll.add(
        socket.rawValue, [.readable, .writable, .edgeTriggered],
        token: Token(
          .associationControl, index: index, generation: association.pointee.generation
        ).rawValue)
      association.pointee.control = consume socket
    } catch {
      return retryAssociation(index, after: Failure(connecting: error))
    }
    datagrams.timers.schedule(index, at: deadline)
    return true
  }

  private func handleControlTimeout(_ index: Int) {
    let association = datagrams.associations.slots[index]
    let negotiation = negotiations[Int(association.pointee.negotiation)]
    if let nested = association.pointee.nested {
      handleConnectTimeout(of: index, nested)
    } else if association.pointee.control == nil, now < negotiation.connectDeadline {
      _ = connectControl(of: index, to: member(of: negotiation))
    } else {
      _ = retryAssociation(index, after: .connectTimeout)
    }
  }

  /// Whether a new client is the upstream itself, captured on its way to where we sent it.
  private func goesRound(_ client: SocketAddress, to destination: OriginalDestination) -> Bool {
    if datagramLoops?.check(destination, now: now) != nil { return true }
    guard datagramLoops?.isSuspicious(sessions: datagrams.associations.count, now: now) == true
    else {
      return false
    }
    let owner = SocketOwner.ofDatagrams(at: client)
    guard let cause = datagramLoops?.judge(owner, of: destination, now: now) else { return false }
    reportLoop(cause, destination)
    return true
  }

  /// Takes the place and the descriptors for one more association; if there are none, the least recently
  /// used one of the client, or of all, gives way.
  private func makeRoom(for client: IPAddress) -> Bool {
    switch takeRoom(for: client) {
    case .granted: return true
    case .full: return evict(datagrams.associations.oldest, for: client)
    case .fullForClient: return evict(datagrams.associations.oldest(of: client), for: client)
    }
  }

  private func takeRoom(for client: IPAddress) -> AssociationQuota.Answer {
    let answer = quota.take(for: client)
    guard case .granted = answer else { return answer }
    if budget.take(configuration.descriptorsPerAssociation) { return .granted }
    quota.giveBack(of: client)
    return .full
  }

  /// Ends an association, if there is one, so that there is room for another.
  private func evict(_ index: Int?, for client: IPAddress) -> Bool {
    guard let index, datagrams.evictions.take(now: now) else { return false }
    counters.add(.evicted, count: datagrams.associations.slots[index].pointee.waiting.count)
    endAssociation(index)
    if case .granted = takeRoom(for: client) { return true }
    return false
  }

  // MARK: Control connection

  func handleAssociation(_ token: Token, _ readiness: Readiness) {
    guard let association = datagrams.associations.slots.find(token) else { return }
    association.pointee.controlReadiness.formUnion(readiness)
    switch association.pointee.state {
    case .vacant: return
    case .connecting: driveAssociationConnecting(token.index)
    case .handshaking: driveAssociating(token.index)
    case .open: watchControl(token.index)
    }
  }

  private func driveAssociationConnecting(_ index: Int) {
    let association = datagrams.associations.slots[index]
    let readiness = association.pointee.controlReadiness
    if !readiness.isDisjoint(with: [.error, .hangUp]) {
      let error = association.pointee.control?.pendingError ?? .connectionReset
      _ = retryAssociation(index, after: Failure(connecting: error))
    } else if readiness.contains(.writable) {
      association.pointee.state = .handshaking
      let negotiation = negotiations[Int(association.pointee.negotiation)]
      let upstream = member(of: negotiation)
      negotiation.startClient(
        .udpAssociate, to: upstream.place.associationRequest, at: upstream)
      datagrams.timers.schedule(index, at: now + associatingTimeout)
      driveAssociating(index)
    }
  }

  func driveAssociating(_ index: Int) {
    let association = datagrams.associations.slots[index]
    guard let socket = association.pointee.control?.rawValue else {
      preconditionFailure("an association without a connection")
    }
    let negotiation = negotiations[Int(association.pointee.negotiation)]
    switch negotiation.advanceAsClient(
      on: socket, &association.pointee.controlReadiness, with: resources.scratch)
    {
    case .waiting: return
    case .stepping:
      let token = Token(
        .associationControl, index: index, generation: association.pointee.generation)
      if !beginStep(of: negotiation, for: token) { failAssociation(index, .resourcesExhausted) }
    case .established:
      configuration.group?.bringBack(negotiation.member)
      completeAssociating(index, reported: negotiation.bound)
    case .failed(let failure):
      doubtPipelining(of: negotiation, after: Failure(failure))
      handleRefusal(failure, by: negotiation.part)
      _ = retryAssociation(index, after: Failure(failure))
    }
  }

  private func completeAssociating(_ index: Int, reported: (address: Endpoint?, port: UInt16)) {
    let association = datagrams.associations.slots[index]
    guard let upstream = member(of: association), let plan = configuration.datagrams else {
      preconditionFailure("an association without an upstream")
    }
    guard
      let place = plan.relayPlace.resolve(
        reported: reported.address, port: reported.port, control: upstream.place.control,
        prefersControl: upstream.relayIsAtControlAddress)
    else {
      failAssociation(index, .protocolViolation)
      return
    }
    if let channel = datagramChannel(of: association), channel.isProtected {
      channel.expectDatagrams()
    } else {
      releaseNegotiation(&association.pointee.negotiation)
    }
    let other = plan.relayPlace.resolve(
      reported: reported.address, port: reported.port, control: upstream.place.control,
      prefersControl: !upstream.relayIsAtControlAddress)
    guard openRelay(of: index, at: place, isUncertain: place != other) else { return }
    watchControl(index)
  }

  /// Opens an association whose upstream takes datagrams at `place`, which may be wrong; false if it has
  /// failed.
  func openRelay(of index: Int, at place: SocketAddress, isUncertain: Bool) -> Bool {
    let association = datagrams.associations.slots[index]
    do {
      let socket = try DatagramSocket.connect(
        to: place, .init(mark: configuration.mark, receiveBytes: Self.receiveBytes))
      try epoll.add(
        socket.rawValue, .readable,
        token: Token(
          .associationRelay, index: index, generation: association.pointee.generation
        ).rawValue)
      association.pointee.relay = consume socket
    } catch {
      failAssociation(index, Failure(connecting: error))
      return false
    }
    association.pointee.isRelayUncertain = isUncertain
    association.pointee.state = .open
    member(of: association)?.datagramAbility = .relays
    forwardWaiting(index)
    scheduleIdle(index)
    return true
  }

  private func forwardWaiting(_ index: Int) {
    let association = datagrams.associations.slots[index]
    let waiting = takeWaiting(of: association)
    waiting.withDatagrams { waiting in
      beginSubmitting(association)
      for datagram in waiting {
        submit(datagram.payload, joinedEvery: 0, to: datagram.destination, of: index)
      }
      finishSubmitting(association)
    }
  }

  private func takeWaiting(
    of association: UnsafeMutablePointer<Association>
  ) -> WaitingDatagrams {
    let waiting = association.pointee.takeWaiting()
    datagrams.waitingBytes -= waiting.byteCount
    return waiting
  }

  /// Nothing is to be said on the connection any more: its end is the association's.
  private func watchControl(_ index: Int) {
    let association = datagrams.associations.slots[index]
    guard let socket = association.pointee.control?.rawValue else { return }
    while association.pointee.controlReadiness.contains(.readable) {
      switch receive(socket, into: resources.scratch) {
      case .bytes(0), .failed:
        endByUpstream(index)
        return
      case .bytes: continue
      case .wouldBlock: association.pointee.controlReadiness.remove(.readable)
      }
    }
    if !association.pointee.controlReadiness.isDisjoint(with: [.error, .hangUp]) {
      endByUpstream(index)
    }
  }

  /// What was asked and has not been answered is answered in another way, or told to be lost.
  func endByUpstream(_ index: Int) {
    rescueQueries(of: datagrams.associations.slots[index], sentUpTo: now, blames: false)
    endAssociation(index)
  }

  /// If the upstream relays no datagrams, queries go over TCP from now on, and all else is dropped until
  /// the rules refuse it. One that is known to relay them and closes a connection is only restarting.
  func handleRefusal(_ failure: HandshakeFailure, by part: UpstreamPart) {
    guard failure.refusesDatagrams, let group = configuration.group else { return }
    let upstream = group.members[part.member]
    if upstream.datagramAbility == .relays, case .closed = failure { return }
    upstream.datagramAbility = .refuses
    if group.datagramAbility == .refuses {
      report(.datagramsRefused(DatagramRefusal(failure: failure, part: part)))
    }
  }

  // MARK: Time

  private func idleTimeout(of association: UnsafeMutablePointer<Association>) -> Timeout {
    let timeouts = configuration.timeouts
    if association.pointee.isDNS { return timeouts.dns }
    return association.pointee.isReplied ? timeouts.datagrams : timeouts.unreplied
  }

  func handleAssociationTimeout(_ index: Int) {
    let association = datagrams.associations.slots[index]
    switch association.pointee.state {
    case .vacant: return
    case .connecting: handleControlTimeout(index)
    case .handshaking:
      if let nested = association.pointee.nested {
        handleHandshakeTimeout(of: index, nested)
        return
      }
      let negotiation = negotiations[Int(association.pointee.negotiation)]
      doubtPipelining(of: negotiation, after: .handshakeTimeout)
      configuration.group?.takeOut(negotiation.member, after: .handshakeTimeout)
      _ = retryAssociation(index, after: .handshakeTimeout)
    case .open:
      // Datagrams since the deadline was set only put it off.
      let deadline = association.pointee.lastActivity + idleTimeout(of: association)
      guard deadline > now else {
        learnFromSilence(of: association)
        endAssociation(index)
        // Not in the midst of a batch.
        if datagrams.associations.count == 0 { datagrams.release() }
        return
      }
      rescueQueries(of: association, sentUpTo: now - Self.patience)
      scheduleIdle(index)
    }
  }

  /// Sets the deadline at which the association is looked at again.
  func scheduleIdle(_ index: Int) {
    let association = datagrams.associations.slots[index]
    let deadline = association.pointee.lastActivity + idleTimeout(of: association)
    datagrams.timers.schedule(index, at: nextDeadline(of: association, idle: deadline))
  }

  /// An upstream may report an address that looks right and is not: if nothing came back from there, the
  /// next association tries the address that is known to work, and the other way round.
  private func learnFromSilence(of association: UnsafeMutablePointer<Association>) {
    guard !association.pointee.isReplied, association.pointee.isRelayUncertain,
      let upstream = member(of: association), !upstream.hasRelayAnswered
    else { return }
    upstream.relayIsAtControlAddress.toggle()
  }

  // MARK: The end

  /// Ends an association that could not be made; queries are answered in another way.
  /// - Parameter hop: of a chain, counted from 0, the one that it failed at.
  func failAssociation(_ index: Int, _ failure: Failure, hop: Int = 0) {
    let association = datagrams.associations.slots[index]
    note(
      failure, destination: nil,
      UpstreamPart(member: Int(association.pointee.member), hop: hop))
    if association.pointee.state == .connecting || failure == .hopRefused {
      datagrams.nextAttempts[association.pointee.members] = now + Self.pauseAfterFailure
    }
    let waiting = takeWaiting(of: association)
    let client = association.pointee.client
    endAssociation(index)
    var lost: Set<SocketAddress> = []
    waiting.withDatagrams { waiting in
      for (payload, destination) in waiting {
        if destination.port == Self.dnsPort, mayCarryOverStream {
          handOver(payload, from: client, to: destination)
        } else {
          counters.add(.noAssociation)
          if configuration.audit != nil { lost.insert(destination) }
        }
      }
    }
    for destination in lost { audit(failureAt: destination) }
  }

  /// Closes everything and gives it back; the client's next datagram begins anew.
  func endAssociation(_ index: Int) {
    let association = datagrams.associations.slots[index]
    datagrams.timers.cancel(index)
    releaseNegotiation(&association.pointee.negotiation)
    if let nested = association.pointee.nested { releaseNegotiations(of: nested) }
    datagrams.waitingBytes -= association.pointee.waiting.byteCount
    if let audit = configuration.audit { auditEnd(of: association, in: audit) }
    let client = association.pointee.client.address
    budget.giveBack(Int(association.pointee.descriptorCount))
    datagrams.associations.remove(index)
    quota.giveBack(of: client)
    counters.add(to: .associationsClosed)
  }

  /// Ends all of them.
  func endAssociations() {
    for index in datagrams.associations.slots.indices
    where datagrams.associations.slots[index].pointee.state != .vacant {
      endAssociation(index)
    }
  }
}

extension HandshakeFailure {
  /// Whether an answer to UDP ASSOCIATE says that this server does not have it: some do not answer
  /// such a request, but close the connection.
  package var refusesDatagrams: Bool {
    switch self {
    case .refused(.commandNotSupported), .refused(.notAllowed), .closed(.reply),
      .datagramsNotSupported:
      true
    case .refused, .refusedByHTTP, .refusedBySOCKS4, .destinationNotSupported,
      .bindNotSupported, .credentialsNotSupported,
      .authenticationRejected, .noAcceptableMethod, .securityFailed, .securityAborted,
      .protectionNotAcceptable, .protocolViolation, .closed:
      false
    }
  }
}
