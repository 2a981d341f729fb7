internal import Addressing
internal import LinuxIO
internal import SOCKS

/// A captured flow on its way to the relay: connect to the upstream, ask it for the destination.
extension Worker {
  func beginCaptured(
    _ socket: consuming Descriptor, to destination: OriginalDestination,
    through upstream: Upstream
  ) {
    guard let index = openSession(socket, origin: .captured(destination)) else { return }
    if let error = connect(index, to: upstream.address) { fail(index, Failure(connecting: error)) }
  }

  /// Starts the second connection of a session; the first event tells what became of it.
  func connect(_ index: Int, to address: SocketAddress) -> Errno? {
    let session = sessions[index]
    do {
      let socket = try connection(of: session, to: address)
      try epoll.add(
        socket.rawValue, [.readable, .writable, .edgeTriggered],
        token: Token(.upstream, index: index, generation: session.pointee.generation).rawValue)
      session.pointee.upstream = consume socket
    } catch {
      return error
    }
    session.pointee.upstreamReadiness = []
    session.pointee.state = .connecting
    timers.schedule(index, at: now + configuration.timeouts.connect)
    return nil
  }

  /// The beginning of a connection, on the side where the session goes.
  private func connection(
    of session: UnsafeMutablePointer<Session>, to address: SocketAddress
  ) throws(Errno) -> Descriptor {
    switch session.pointee.origin {
    case .captured, .served, .forwarded(to: _, .outward):
      return try StreamSocket.connect(to: address, mark: configuration.mark)
    case .forwarded(to: _, .inward):
      return try connectInside(to: address)
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
      case .captured: beginHandshake(index)
      case .served: completeServing(index)
      case .forwarded: beginRelay(index)
      }
    }
  }

  func handleConnectFailure(_ index: Int, _ error: Errno) {
    switch sessions[index].pointee.origin {
    case .captured: fail(index, Failure(connecting: error))
    case .served, .forwarded: connectNext(index, after: error)
    }
  }

  // MARK: Handshake

  private func beginHandshake(_ index: Int) {
    guard let upstream = configuration.upstream, var destination = destination(of: index) else {
      preconditionFailure("a captured session without an upstream or a destination")
    }
    if destination.port == Self.dnsPort, let resolver = configuration.datagrams?.resolver {
      destination = .address(resolver)
    }
    sessions[index].pointee.state = .handshaking
    negotiation(of: index).startClient(.connect, to: destination, at: upstream)
    timers.schedule(index, at: now + configuration.timeouts.handshake)
    driveHandshaking(index)
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
    switch negotiation(of: index).advanceAsClient(
      on: socket, &session.pointee.upstreamReadiness, with: resources.scratch)
    {
    case .waiting: return
    case .established(let rest):
      // A server that speaks first may have been faster than we read.
      session.pointee.downstreamward.hold(rest, &resources)
      beginRelay(index)
    case .failed(let failure):
      failHandshake(index, Failure(failure))
    }
  }

  func failHandshake(_ index: Int, _ failure: Failure) {
    doubtPipelining(of: negotiation(of: index), after: failure)
    fail(index, failure)
  }

  /// A pipelined handshake that did not get as far as a reply speaks against the proof that this
  /// upstream takes it; the server behind the address may have changed.
  func doubtPipelining(of negotiation: Negotiation, after failure: Failure) {
    guard negotiation.isPipelined else { return }
    switch failure {
    case .closedInMethodSelection, .closedInAuthentication, .closedInReply, .handshakeTimeout,
      .protocolViolation, .noAcceptableMethod:
      configuration.upstream?.setPipelining(false)
      report(.pipelining(proved: false))
    default: break
    }
  }
}

extension Failure {
  /// Why a connection could not be made.
  init(connecting error: Errno) {
    switch error {
    case .connectionRefused, .connectionReset: self = .connectRefused
    case .hostUnreachable, .networkUnreachable: self = .connectUnreachable
    case .timedOut: self = .connectTimeout
    case .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory, .noBufferSpace:
      self = .resourcesExhausted
    default: self = .connectFailed
    }
  }
}
