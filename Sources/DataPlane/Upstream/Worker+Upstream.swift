internal import Addressing
internal import LinuxIO
internal import SOCKS

/// A captured flow on its way to the relay: connect to the upstream, ask it for the destination.
extension Worker {
  func beginCaptured(
    _ socket: consuming Descriptor, from client: SocketAddress, to destination: OriginalDestination
  ) {
    guard let policy = configuration.policy else {
      let members = configuration.group?.standard ?? MemberSet()
      beginCaptured(socket, from: client, to: destination, among: members, by: .none)
      return
    }
    let verdict = verdict(of: policy, on: .tcp, from: client, to: destination.address)
    switch verdict.decision {
    case .upstreams(let members):
      beginCaptured(socket, from: client, to: destination, among: members, by: verdict.rule)
    case .direct: beginDirect(socket, to: destination, by: verdict.rule)
    case .reject: refuse(socket, .rejectedByRule, destination: destination)
    }
  }

  /// - Parameter members: those of the upstreams that it may go through.
  private func beginCaptured(
    _ socket: consuming Descriptor, from client: SocketAddress,
    to destination: OriginalDestination, among members: MemberSet, by rule: RuleNumber
  ) {
    guard let index = openSession(socket, origin: .captured(destination)) else { return }
    sessions[index].pointee.rule = rule
    if configuration.connectsDirectly {
      beginDirect(index, to: destination)
      return
    }
    let negotiation = negotiation(of: index)
    negotiation.flow = identity(ofConnectionFrom: client, to: destination.address)
    negotiation.allowed = members
    guard let group = configuration.group else {
      preconditionFailure("a captured flow without an upstream")
    }
    if group.isPlural {
      if group.balance == .race {
        beginRace(index)
        return
      }
      negotiation.key = group.key(of: client, to: destination.address)
      let able = group.able(members, toReachIPv4: destination.address.address.isIPv4)
      _ = choose(for: negotiation, among: able, of: group, by: &sessionChoice)
    } else {
      negotiation.member = group.first
    }
    beginConnecting(index)
  }

  /// Starts a captured session's way through the member that was chosen for it.
  func beginConnecting(_ index: Int) {
    sessions[index].pointee.state = .connecting
    if beginWithPooled(index) { return }
    enter(.connect, negotiation(of: index))
    negotiation(of: index).connectDeadline = now + configuration.timeouts.connect
    connectCaptured(index, to: member(of: negotiation(of: index)))
  }

  /// Starts a captured session's connection to where it wanted to go.
  private func beginDirect(_ index: Int, to destination: OriginalDestination) {
    let target = resolver(insteadOf: destination.address) ?? destination.address
    if let error = connect(index, to: target) {
      fail(index, TargetError(errno: error, isIPv4: target.address.isIPv4).failure)
    }
  }

  /// The resolver that is asked in place of the one at an address; nil where that is asked itself, or is
  /// none.
  private func resolver(insteadOf address: SocketAddress) -> SocketAddress? {
    address.port == Self.dnsPort ? configuration.datagrams?.resolver : nil
  }

  /// Starts a captured session's connection to the upstream, or waits for room in the upstream's queue.
  private func connectCaptured(_ index: Int, to upstream: Upstream) {
    let deadline = negotiation(of: index).connectDeadline
    do {
      if let socket = try connect(to: upstream) {
        try setUpstream(of: index, socket)
        timers.schedule(index, at: deadline)
      } else {
        timers.schedule(index, at: min(deadline, nextUpstreamAttempt))
      }
    } catch {
      failAttempt(index, Failure(connecting: error))
    }
  }

  /// Starts a connection to the upstream; nil while its queue is full, until `nextUpstreamAttempt`.
  /// However many flows wait for room, one of them tries each time.
  func connect(to upstream: Upstream) throws(Errno) -> Descriptor? {
    let place = upstream.place
    if case .socket = place, nextUpstreamAttempt > now { return nil }
    let tuning = configuration.tuning
    if let socket = try place.connect(
      mark: configuration.mark, upstream.isNear ? (tuning ?? .init()).unpaced : tuning)
    {
      return socket
    }
    nextUpstreamAttempt = now + Upstream.Place.pauseWhileFull
    return nil
  }

  /// Starts the connection of a session to its target; the first event tells what became of it.
  func connect(_ index: Int, to target: SocketAddress) -> Errno? {
    do {
      try setUpstream(of: index, try connection(of: sessions[index], to: target))
    } catch {
      return error
    }
    sessions[index].pointee.state = .connecting
    timers.schedule(index, at: now + configuration.timeouts.connect)
    return nil
  }

  /// The beginning of a connection, on the side where the session goes.
  private func connection(
    of session: UnsafeMutablePointer<Session>, to target: SocketAddress
  ) throws(Errno) -> Descriptor {
    switch session.pointee.origin {
    case .captured, .served, .forwarded(to: _, .outward), .exposed:
      return try StreamSocket.connect(to: target, mark: configuration.mark)
    case .forwarded(to: _, .inward):
      return try connectInside(to: target)
    }
  }

  /// Has a socket be the upstream of a session, in place of the one that it had.
  func setUpstream(of index: Int, _ socket: consuming Descriptor) throws(Errno) {
    let session = sessions[index]
    try epoll.add(
      socket.rawValue, [.readable, .writable, .edgeTriggered],
      token: Token(.upstream, index: index, generation: session.pointee.generation).rawValue)
    session.pointee.upstream = consume socket
    session.pointee.upstreamReadiness = []
  }

  func handleConnectTimeout(_ index: Int) {
    if case .captured = sessions[index].pointee.origin, sessions[index].pointee.upstream == nil,
      now < negotiation(of: index).connectDeadline
    {
      connectCaptured(index, to: member(of: negotiation(of: index)))
    } else {
      // An error that the kernel has been told by ICMP, and that it went on in spite of.
      let error = sessions[index].pointee.upstream?.pendingError
      handleConnectFailure(index, error ?? .timedOut)
    }
  }

  func driveConnecting(_ index: Int) {
    let session = sessions[index]
    if session.pointee.downstreamReadiness.contains(.error) {
      fail(index, .resetByDownstream)
      return
    }
    let readiness = session.pointee.upstreamReadiness
    if !readiness.isDisjoint(with: [.error, .hangUp]) {
      handleConnectFailure(index, session.pointee.upstream?.pendingError ?? .connectionReset)
    } else if readiness.contains(.writable) {
      switch session.pointee.origin {
      case .captured where !configuration.connectsDirectly: beginHandshake(index)
      case .served: completeServing(index)
      case .exposed: beginBinding(index)
      case .captured, .forwarded: beginRelay(index)
      }
    }
  }

  func handleConnectFailure(_ index: Int, _ error: Errno) {
    switch sessions[index].pointee.origin {
    case .captured(let destination) where configuration.connectsDirectly:
      fail(index, TargetError(errno: error, isIPv4: destination.address.address.isIPv4).failure)
    case .captured: failAttempt(index, Failure(connecting: error))
    case .served, .forwarded: connectNext(index, after: error)
    case .exposed: failExposing(index, .cannotConnect(error))
    }
  }

  // MARK: Handshake

  /// - Parameter isAdmitted: the connection is past everything but the request.
  func beginHandshake(_ index: Int, isAdmitted: Bool = false) {
    guard let destination = requestedDestination(of: index) else {
      preconditionFailure("a captured session without a destination")
    }
    sessions[index].pointee.state = .handshaking
    let negotiation = negotiation(of: index)
    negotiation.flow?.destination = destination
    let upstream = member(of: negotiation)
    negotiation.startClient(
      .connect, to: destination, at: upstream, isAdmitted ? .admitted : upstream.mode)
    enter(negotiation.flowPhase, negotiation)
    timers.schedule(index, at: beginHandshakeTiming(negotiation))
    driveHandshaking(index)
  }

  /// What the upstream is asked for.
  func requestedDestination(of index: Int) -> Endpoint? {
    guard case .address(let address)? = destination(of: index),
      let resolver = resolver(insteadOf: address)
    else { return destination(of: index) }
    return .address(resolver)
  }

  /// Begins the relay of a captured session whose handshake is through.
  /// - Parameter rest: what came behind the reply.
  func beginRelay(_ index: Int, rest: UnsafeRawBufferPointer) {
    sessions[index].pointee.member = UInt8(negotiation(of: index).member)
    endTiming(negotiation(of: index), of: sessions[index])
    if negotiation(of: index).protection != nil {
      negotiation(of: index).beginProtection(with: rest)
      beginProtectedRelay(index)
      return
    }
    // A server that speaks first may have been faster than we read.
    sessions[index].pointee.downstreamward.hold(rest, &resources)
    let earlyCount = negotiation(of: index).earlyCount
    if earlyCount > 0, !takeEarly(index, earlyCount) { return }
    beginRelay(index)
  }

  func driveHandshaking(_ index: Int) {
    let session = sessions[index]
    if session.pointee.downstreamReadiness.contains(.error) {
      fail(index, .resetByDownstream)
      return
    }
    guard let socket = session.pointee.upstream?.rawValue else {
      preconditionFailure("a handshake without a connection")
    }
    switch configuration.earlyData {
    case .off: break
    case .on: sendEarly(index)
    case .automatic: if member(of: negotiation(of: index)).takesEarlyData { sendEarly(index) }
    }
    switch negotiation(of: index).advanceAsClient(
      on: socket, &session.pointee.upstreamReadiness, with: resources.scratch)
    {
    case .waiting: enter(negotiation(of: index).flowPhase, negotiation(of: index))
    case .stepping:
      let token = Token(.upstream, index: index, generation: session.pointee.generation)
      if !beginStep(of: negotiation(of: index), for: token) { fail(index, .resourcesExhausted) }
    case .established(let rest):
      configuration.group?.bringBack(negotiation(of: index).member)
      notePooled(negotiation(of: index))
      beginRelay(index, rest: rest)
    case .failed(let failure):
      failHandshake(index, Failure(failure, of: negotiation(of: index)))
    }
  }

  func failHandshake(_ index: Int, _ failure: Failure) {
    if beginWithoutPooled(index, after: failure) { return }
    doubtPipelining(of: negotiation(of: index), after: failure)
    failAttempt(index, failure)
  }

  /// A pipelined handshake that did not get as far as a reply speaks against the proof that this
  /// upstream takes it; the server behind the address may have changed.
  func doubtPipelining(of negotiation: Negotiation, after failure: Failure) {
    guard negotiation.isPipelined else { return }
    switch failure {
    case .closedInMethodSelection, .closedInAuthentication, .closedInReply, .handshakeTimeout,
      .protocolViolation, .noAcceptableMethod:
      member(of: negotiation).isPipelined = false
      member(of: negotiation).takesEarlyData = false
      report(.pipeliningDoubted(member: negotiation.member))
    default: break
    }
  }
}

extension Failure {
  /// Why a connection could not be made.
  init(connecting error: Errno) {
    switch error {
    // There is no Unix socket, or no more.
    case .connectionRefused, .connectionReset, .noEntry: self = .connectRefused
    case .hostUnreachable, .networkUnreachable: self = .connectUnreachable
    case .timedOut: self = .connectTimeout
    case .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory, .noBufferSpace:
      self = .resourcesExhausted
    case .addressNotAvailable: self = .noLocalPort
    default: self = .connectFailed
    }
  }
}
