internal import Addressing
internal import LinuxIO
internal import SOCKS

/// The client of BIND (RFC 1928, section 4): a session begins with the upstream and ends at the local
/// service, which is its downstream, though the connection comes from the other side.
extension Worker {
  /// After how many silent seconds the upstream is probed while nobody comes, which may take days: the
  /// mapping of a router on the way lives for minutes.
  private static let keepAliveSeconds: Int32 = 60

  /// When the upstream is to be asked to listen; nil if it does already, or is being asked.
  var nextExposure: Instant? {
    guard let exposing, !exposing.isWaiting, !isDraining else { return nil }
    return exposing.nextAttempt
  }

  /// Asks the upstream to listen if it is time to.
  func expose() {
    guard let next = nextExposure, next <= now, let upstream = configuration.upstream else {
      return
    }
    guard budget.take(Self.descriptorsPerSession) else {
      exposing?.nextAttempt = now + Self.pauseInterval
      return
    }
    do {
      guard let socket = try connect(to: upstream) else {
        budget.giveBack(Self.descriptorsPerSession)
        exposing?.nextAttempt = nextUpstreamAttempt
        return
      }
      let index = sessions.take()
      sessions[index].pointee.origin = .exposed
      sessions[index].pointee.state = .connecting
      sessions[index].pointee.negotiation = negotiations.take()
      counters.add(to: .innerOpened)
      exposing?.isWaiting = true
      timers.schedule(index, at: now + configuration.timeouts.connect)
      do {
        try setUpstream(of: index, socket)
      } catch {
        failExposing(index, .cannotConnect(error))
      }
    } catch {
      budget.giveBack(Self.descriptorsPerSession)
      noteExposureFailure(.cannotConnect(error))
    }
  }

  /// The upstream has taken the connection.
  func beginBinding(_ index: Int) {
    guard let upstream = configuration.upstream, let exposing, let exposure = configuration.exposure
    else { preconditionFailure("an exposed session without an exposure") }
    sessions[index].pointee.state = .binding
    let peer = exposure.peer ?? upstream.anybody
    negotiation(of: index).startClient(
      .bind, to: .address(SocketAddress(peer, exposing.port)), at: upstream)
    timers.schedule(index, at: now + configuration.timeouts.handshake)
    driveExposing(index)
  }

  /// Goes on with the request, or waits for the peer.
  func driveExposing(_ index: Int) {
    let session = sessions[index]
    guard let socket = session.pointee.upstream?.rawValue else {
      preconditionFailure("a handshake without a connection")
    }
    let negotiation = negotiation(of: index)
    let progress = negotiation.advanceAsClient(
      on: socket, &session.pointee.upstreamReadiness, with: resources.scratch)
    if negotiation.isListening, session.pointee.state == .binding { beginAwaiting(index) }
    switch progress {
    case .waiting: return
    case .stepping:
      let token = Token(.upstream, index: index, generation: session.pointee.generation)
      if !beginStep(of: negotiation, for: token) {
        failExposing(index, .cannotConnect(.noBufferSpace))
      }
    case .established(let rest): handleArrival(index, rest)
    case .failed(let failure): failExposing(index, UpstreamProbe.Outcome(failure, of: negotiation))
    }
  }

  /// The first reply has come: how long the second takes is up to others.
  private func beginAwaiting(_ index: Int) {
    let session = sessions[index]
    session.pointee.state = .awaiting
    session.pointee.upstream?.keepAlive(afterSeconds: Self.keepAliveSeconds)
    timers.cancel(index)
    let place = listener(of: negotiation(of: index))
    if exposing?.noteListening(at: place, now: now) == true { report(.exposure(.listening(place))) }
  }

  /// Where the upstream listens. Zeros, or what is no name, stand for the address at which it is reached
  /// itself.
  private func listener(of negotiation: Negotiation) -> Endpoint {
    let (bound, port) = negotiation.bound
    switch bound {
    case .name(let name, let port)?: return .name(name, port: port)
    case .address(let address)? where !address.address.isUnspecified:
      return .address(address.unmapped)
    case .address?, nil:
      guard let upstream = configuration.upstream else {
        preconditionFailure("an exposed session without an upstream")
      }
      return upstream.itself(at: port)
    }
  }

  func handleBindingTimeout(_ index: Int) {
    failExposing(index, UpstreamProbe.Outcome(end: negotiation(of: index), isTimeout: true))
  }

  /// Ends a session to which nobody has come.
  func failExposing(_ index: Int, _ outcome: UpstreamProbe.Outcome) {
    let isListening = sessions[index].pointee.state == .awaiting
    close(index)
    if isListening, case .replied(.notAllowed) = outcome {
      // Dante's second reply when somebody comes whom it was not to expect.
      exposing?.noteStranger(now: now)
      report(.exposure(.turnedAway(nil)))
    } else {
      noteExposureFailure(outcome)
    }
  }

  private func noteExposureFailure(_ outcome: UpstreamProbe.Outcome) {
    let isRefusal = if case .replied = outcome { true } else { false }
    if exposing?.noteFailure(isRefusal: isRefusal, now: now) == true {
      report(.exposure(.failed(outcome)))
    }
  }

  // MARK: The service

  /// The second reply has come, and perhaps bytes of the peer behind it.
  private func handleArrival(_ index: Int, _ rest: UnsafeRawBufferPointer) {
    let session = sessions[index]
    let negotiation = negotiation(of: index)
    let peer = negotiation.peer
    guard isExpected(peer) else {
      session.pointee.upstream?.resetOnClose()
      close(index)
      exposing?.noteArrival(now: now)
      report(.exposure(.turnedAway(peer)))
      return
    }
    exposing?.noteArrival(now: now)
    report(.exposure(.arrived(from: peer)))
    session.pointee.state = .delivering
    counters.add(to: .innerClosed)
    counters.add(to: .sessionsOpened)
    if negotiation.protection != nil {
      negotiation.beginProtection(with: rest)
    } else {
      session.pointee.downstreamward.hold(rest, &resources)
    }
    negotiation.candidates = configuration.exposure?.service.reversed() ?? []
    connectToService(index, after: nil)
  }

  /// Whether somebody from there may come. The upstream has been told who may; not all heed it.
  private func isExpected(_ peer: Endpoint?) -> Bool {
    guard let expected = configuration.exposure?.peer else { return true }
    guard case .address(let address)? = peer else { return false }
    return address.unmapped.address == expected
  }

  /// Tries the next address of the service, after the former has failed in this way.
  func connectToService(_ index: Int, after errno: Errno?) {
    let session = sessions[index]
    let negotiation = negotiation(of: index)
    if let errno { negotiation.note(errno) }
    session.pointee.downstream = nil
    session.pointee.downstreamReadiness = []
    while let address = negotiation.nextCandidate() {
      do {
        let socket = try StreamSocket.connect(to: address, mark: configuration.mark)
        try epoll.add(
          socket.rawValue, [.readable, .writable, .edgeTriggered],
          token: Token(.downstream, index: index, generation: session.pointee.generation).rawValue)
        session.pointee.downstream = consume socket
        timers.schedule(index, at: now + configuration.timeouts.connect)
        return
      } catch {
        negotiation.note(error)
      }
    }
    fail(index, negotiation.targetError?.failure ?? .targetFailed)
  }

  func driveDelivering(_ index: Int) {
    let session = sessions[index]
    if session.pointee.upstreamReadiness.contains(.error) {
      fail(index, .resetByUpstream)
      return
    }
    let readiness = session.pointee.downstreamReadiness
    if !readiness.isDisjoint(with: [.error, .hangUp]) {
      connectToService(
        index, after: session.pointee.downstream?.pendingError ?? .connectionReset)
    } else if readiness.contains(.writable) {
      if negotiation(of: index).protection != nil {
        beginProtectedRelay(index)
      } else {
        beginRelay(index)
      }
    }
  }
}

extension Upstream {
  /// Where the last server of it listens, but at this port; on a Unix socket it is on this host.
  fileprivate func itself(at port: UInt16) -> Endpoint {
    switch further.last?.endpoint {
    case .name(let name, _)?: .name(name, port: port)
    case .address(let address)?: .address(SocketAddress(address.address, port))
    case nil: .address(SocketAddress(place.control.address, port))
    }
  }

  /// Zeros, of the family in which it is reached.
  fileprivate var anybody: IPAddress {
    if hasIPv6, case .address(let address) = itself(at: 0), !address.address.isIPv4 {
      .v6(.any)
    } else {
      .v4(.any)
    }
  }
}
