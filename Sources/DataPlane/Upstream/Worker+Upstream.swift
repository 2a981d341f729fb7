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
      let socket = try StreamSocket.connect(to: address, mark: configuration.mark)
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
      }
    }
  }

  func handleConnectFailure(_ index: Int, _ error: Errno) {
    switch sessions[index].pointee.origin {
    case .captured: fail(index, Failure(connecting: error))
    case .served: connectNext(index, after: error)
    }
  }

  // MARK: Handshake

  private func beginHandshake(_ index: Int) {
    guard let upstream = configuration.upstream, let destination = destination(of: index) else {
      preconditionFailure("a captured session without an upstream or a destination")
    }
    sessions[index].pointee.state = .handshaking
    let negotiation = negotiation(of: index)
    negotiation.isPipelined = upstream.mode == .pipelined
    negotiation.startClient(
      ClientHandshake(
        destination: destination, credentials: upstream.credentials, mode: upstream.mode))
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
    let negotiation = negotiation(of: index)
    while true {
      if session.pointee.upstreamReadiness.contains(.writable) {
        switch negotiation.flush(to: socket) {
        case .bytes: break
        case .wouldBlock: session.pointee.upstreamReadiness.remove(.writable)
        case .failed:
          failHandshake(index, Failure(negotiation.endAsClient()))
          return
        }
      }
      guard session.pointee.upstreamReadiness.contains(.readable) else { return }
      switch receive(socket, into: resources.scratch) {
      case .bytes(0):
        failHandshake(index, Failure(negotiation.endAsClient()))
        return
      case .bytes(let count):
        if count < resources.scratch.count,
          session.pointee.upstreamReadiness.isDisjoint(with: .moreToRead)
        {
          session.pointee.upstreamReadiness.remove(.readable)
        }
        let input = UnsafeRawBufferPointer(rebasing: resources.scratch[..<count])
        let (consumed, action) = negotiation.receiveAsClient(input)
        switch action {
        case .receive: continue
        case .established:
          // A server that speaks first may have been faster than we read.
          session.pointee.downstreamward.hold(
            UnsafeRawBufferPointer(rebasing: input[consumed...]), &resources)
          beginRelay(index)
          return
        case .failed(let failure):
          failHandshake(index, Failure(failure))
          return
        }
      case .wouldBlock:
        session.pointee.upstreamReadiness.remove(.readable)
      case .failed:
        failHandshake(index, Failure(negotiation.endAsClient()))
        return
      }
    }
  }

  /// A pipelined handshake that did not get as far as a reply speaks against the proof that this
  /// upstream takes it; the server behind the address may have changed.
  func failHandshake(_ index: Int, _ failure: Failure) {
    if negotiation(of: index).isPipelined {
      switch failure {
      case .closedInMethodSelection, .closedInAuthentication, .closedInReply, .handshakeTimeout,
        .protocolViolation, .noAcceptableMethod:
        configuration.upstream?.setPipelining(false)
        report(.pipelining(proved: false))
      default: break
      }
    }
    fail(index, failure)
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
