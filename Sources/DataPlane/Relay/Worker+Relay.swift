internal import Addressing
internal import LinuxIO
internal import SOCKS

/// The relay itself, and how every session ends.
extension Worker {
  /// How long a direction keeps a pipe at least without using it.
  private static let sweepInterval = Timeout.seconds(1)
  /// After how many silent seconds a half-closed downstream is probed. Connection tracking forgets
  /// such a connection after 60 (nf_conntrack_tcp_timeout_close_wait), and the rules could not tell
  /// its packets from those of a connection older than they are.
  private static let trackingSeconds: UInt32 = 20
  /// How old a relay is when its peers begin to be probed (`SO_KEEPALIVE`): the system does so after
  /// hours, and most sessions are over before it is worth a system call and a timer of the kernel's.
  private static let keepAliveDelay = Timeout.seconds(30)

  /// Makes a session of an accepted socket; nil if the kernel does not let it be watched.
  func openSession(_ socket: consuming Descriptor, origin: Session.Origin) -> Int? {
    let index = sessions.take()
    let session = sessions[index]
    session.pointee.origin = origin
    session.pointee.opened = now
    session.pointee.negotiation = negotiations.take()
    counters.add(to: isInner(session) ? .innerOpened : .sessionsOpened)
    do {
      try epoll.add(
        socket.rawValue, [.readable, .writable, .edgeTriggered],
        token: Token(.downstream, index: index, generation: session.pointee.generation).rawValue)
      session.pointee.downstream = consume socket
    } catch {
      session.pointee.downstream = consume socket
      fail(index, .resourcesExhausted)
      return nil
    }
    return index
  }

  func negotiation(of index: Int) -> Negotiation {
    negotiations[Int(sessions[index].pointee.negotiation)]
  }

  /// Gives back the negotiation at `index`, if there is one.
  func releaseNegotiation(_ index: inout Int32) {
    guard index >= 0 else { return }
    negotiations.giveBack(index)
    index = -1
  }

  /// Where the session is going; nil for a served one that relays or has not said it yet.
  func destination(of index: Int) -> Endpoint? {
    let session = sessions[index]
    switch session.pointee.origin {
    case .captured(let destination): return .address(destination.address)
    case .forwarded(to: let target, _): return .address(target)
    case .exposed: return configuration.exposure.map { .address($0.service[0]) }
    case .served:
      return session.pointee.negotiation >= 0 ? negotiation(of: index).destination : nil
    }
  }

  // MARK: Relaying

  func beginRelay(_ index: Int) {
    let session = sessions[index]
    releaseNegotiation(&session.pointee.negotiation)
    session.pointee.state = .relaying
    beginTiming(index)
    driveRelaying(index)
  }

  /// From now on the session ends when nothing moves.
  func beginTiming(_ index: Int) {
    let session = sessions[index]
    session.pointee.lastActivity = now
    session.pointee.setUpTime = SetUpTime(from: session.pointee.opened, to: now)
    timers.schedule(index, at: now + min(Self.keepAliveDelay, configuration.timeouts.idle))
  }

  func driveRelaying(_ index: Int) {
    let session = sessions[index]
    guard let downstream = session.pointee.downstream?.rawValue,
      let upstream = session.pointee.upstream?.rawValue
    else { preconditionFailure("a relay with one end") }
    let wasHalfClosed = session.pointee.isHalfClosed

    var sent = 0
    let upward = session.pointee.upstreamward.pump(
      from: downstream, &session.pointee.downstreamReadiness,
      to: upstream, &session.pointee.upstreamReadiness,
      keepsSinkOpen: session.pointee.downstreamward.hasEnded || holdsUpstream(session),
      with: &resources, moved: &sent)
    if let finding = resources.sinkFinding { note(finding, ofWayOf: session) }
    var received = 0
    let downward = session.pointee.downstreamward.pump(
      from: upstream, &session.pointee.upstreamReadiness,
      to: downstream, &session.pointee.downstreamReadiness,
      keepsSinkOpen: session.pointee.upstreamward.hasEnded, with: &resources, moved: &received)
    if resources.sinkFinding == .paced, case .captured = session.pointee.origin {
      leavePacingOfAccepted()
    }
    resources.sinkFinding = nil
    noteMoved(index, sent: sent, received: received)

    if let failure = failure(upward, downward, session) {
      fail(index, failure)
    } else if session.pointee.upstreamward.hasEnded, session.pointee.downstreamward.hasEnded {
      close(index)
    } else {
      if session.pointee.isHalfClosed, !wasHalfClosed { beginHalfCloseTiming(index) }
      if upward.hasYielded || downward.hasYielded { enqueue(index) }
    }
  }

  /// Has what a stream has found out of the way to its upstream hold for the connections that follow.
  private func note(
    _ finding: ShortPath.Finding, ofWayOf session: UnsafeMutablePointer<Session>
  ) {
    guard case .captured = session.pointee.origin, !configuration.connectsDirectly else { return }
    let upstream = configuration.group?.members[Int(session.pointee.member)]
    switch finding {
    case .long: upstream?.isNear = false
    case .short: break
    case .paced: upstream?.isNear = true
    }
  }

  /// Whether the upstream does not hear that the downstream has stopped sending.
  func holdsUpstream(_ session: UnsafeMutablePointer<Session>) -> Bool {
    guard case .captured = session.pointee.origin else { return false }
    return switch configuration.halfClose {
    case .propagate: false
    case .hold: true
    case .automatic:
      configuration.group?.members[Int(session.pointee.member)].dropsAnswers ?? false
    }
  }

  /// Counts the application's bytes that a turn has moved.
  func noteMoved(_ index: Int, sent: Int, received: Int) {
    guard sent + received > 0 else { return }
    let session = sessions[index]
    session.pointee.lastActivity = now
    guard !isInner(session) else { return }
    if received > 0 { noteFirstByte(of: session) }
    counters.add(sent, to: .bytesUpstream)
    counters.add(received, to: .bytesDownstream)
    if configuration.audit != nil { auditBytes(index, sent: sent, received: received) }
  }

  /// One direction has just ended.
  func beginHalfCloseTiming(_ index: Int) {
    timers.schedule(
      index, at: now + min(.seconds(Self.trackingSeconds), configuration.timeouts.halfClose))
  }

  /// Whether the session has met its end. A reset that the relay does not run into, since the other
  /// side blocks, shows as an error event only: the downstream's ends the session at once, while the
  /// upstream's waits until the downstream has taken what came before it.
  private func failure(
    _ upward: HalfDuplex.Progress, _ downward: HalfDuplex.Progress,
    _ session: UnsafeMutablePointer<Session>
  ) -> Failure? {
    switch (upward, downward) {
    case (.sourceFailed, _), (_, .sinkFailed): return .resetByDownstream
    case (_, .sourceFailed), (.sinkFailed, _): return .resetByUpstream
    case (.blocked, _), (.yielded, _), (.ended, _):
      if session.pointee.downstreamReadiness.contains(.error) { return .resetByDownstream }
      let isDelivered =
        !downward.hasYielded && session.pointee.downstreamReadiness.contains(.writable)
      return session.pointee.upstreamReadiness.contains(.error) && isDelivered
        ? .resetByUpstream : nil
    }
  }

  func enqueue(_ index: Int) {
    let session = sessions[index]
    guard !session.pointee.isQueued else { return }
    session.pointee.isQueued = true
    runQueue.append(Token(.downstream, index: index, generation: session.pointee.generation))
  }

  /// Takes pipes back from directions that have gone quiet, so that a kept-alive connection does not
  /// hold two descriptors for a transfer that is over, and closes the pool when nobody uses it.
  func sweepPipes() {
    guard !resources.pipes.isEmpty else {
      nextSweep = nil
      return
    }
    guard let time = nextSweep else {
      nextSweep = now + Self.sweepInterval
      return
    }
    guard time <= now else { return }
    for index in sessions.indices where sessions[index].pointee.state == .relaying {
      sessions[index].pointee.upstreamward.giveBackIdlePipe(&resources)
      sessions[index].pointee.downstreamward.giveBackIdlePipe(&resources)
    }
    if resources.pipes.lentCount == 0 { resources.pipes.closeIdle() }
    nextSweep = now + Self.sweepInterval
  }

  // MARK: The end

  func handleTimeout(_ index: Int) {
    let session = sessions[index]
    switch session.pointee.state {
    case .vacant: return
    case .connecting: handleConnectTimeout(index)
    case .racing: handleRaceTimeout(index)
    case .handshaking: handleHandshakeTimeout(index)
    case .binding: handleBindingTimeout(index)
    case .awaiting: return
    case .delivering: connectToService(index, after: .timedOut)
    case .negotiating, .resolving: fail(index, .handshakeTimeout)
    case .listening: handleListeningTimeout(index)
    case .associated: handleServedTimeout(index)
    case .rejecting: close(index)
    case .relaying, .protected:
      let isHalfClosed = session.pointee.isHalfClosed
      let timeout = isHalfClosed ? configuration.timeouts.halfClose : configuration.timeouts.idle
      // Bytes that moved since the deadline was set only put it off.
      let deadline = session.pointee.lastActivity + timeout
      guard deadline > now else {
        fail(index, isHalfClosed ? .halfCloseTimeout : .idleTimeout)
        return
      }
      if !session.pointee.isKeptAlive {
        session.pointee.downstream?.keepAlive()
        session.pointee.upstream?.keepAlive()
        session.pointee.isKeptAlive = true
      }
      if isHalfClosed, !session.pointee.isKeptTracked {
        session.pointee.downstream?.keepAlive(afterSeconds: Int32(Self.trackingSeconds))
        session.pointee.isKeptTracked = true
      }
      timers.schedule(index, at: deadline)
    }
  }

  /// Ends a session by RST on both sides: the application must not take a failure for the end.
  func fail(_ index: Int, _ failure: Failure) {
    let session = sessions[index]
    note(failure, of: index)
    session.pointee.downstream?.resetOnClose()
    session.pointee.upstream?.resetOnClose()
    close(index)
  }

  /// Counts a session's failure, and tells of it if that has not just been done. What befalls the
  /// embedded server's half of a captured flow is told by the other half, as the reply that it got.
  func note(_ failure: Failure, of index: Int) {
    let session = sessions[index]
    guard !isInner(session) else { return }
    let part =
      session.pointee.negotiation >= 0 ? negotiation(of: index).part : UpstreamPart()
    note(failure, destination: destination(of: index), part)
  }

  func isInner(_ session: UnsafeMutablePointer<Session>) -> Bool {
    configuration.servesItself && session.pointee.origin.isServed || session.pointee.awaitsPeer
  }

  /// Closes both sockets and gives everything back.
  func close(_ index: Int) {
    let session = sessions[index]
    counters.add(to: isInner(session) ? .innerClosed : .sessionsClosed)
    if let audit = configuration.audit { auditEnd(of: index, in: audit) }
    timers.cancel(index)
    session.pointee.upstreamward.release(&resources)
    session.pointee.downstreamward.release(&resources)
    if session.pointee.state == .racing { endContenders(of: index) }
    releaseNegotiation(&session.pointee.negotiation)
    if session.pointee.state == .listening { listeningCount -= 1 }
    if session.pointee.awaitsPeer { exposing?.isWaiting = false }
    releaseServed(session)
    sessions.giveBack(index)
    budget.giveBack(Self.descriptorsPerSession)
    reportIfDrained()
  }

  /// Resets every session that is left.
  func endAll() {
    for index in sessions.indices where sessions[index].pointee.state != .vacant {
      fail(index, .endedByShutdown)
    }
  }
}

extension Session {
  /// One direction has ended, the other has not.
  var isHalfClosed: Bool { upstreamward.hasEnded != downstreamward.hasEnded }
}

extension HalfDuplex.Progress {
  var hasYielded: Bool {
    switch self {
    case .yielded: true
    case .blocked, .ended, .sourceFailed, .sinkFailed: false
    }
  }
}
