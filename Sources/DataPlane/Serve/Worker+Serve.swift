internal import Addressing
internal import LinuxIO
internal import SOCKS

/// The embedded SOCKS5 server: from a client's greeting to the connection with its target.
extension Worker {
  /// How long a refused client may take to read the refusal.
  private static let rejectTimeout = Timeout.seconds(5)

  func beginServing(_ socket: consuming Descriptor, from client: SocketAddress) {
    guard configuration.access.admits(client.address) else {
      refuse(socket, .clientNotAllowed, destination: nil)
      return
    }
    guard let index = openSession(socket, origin: .served) else { return }
    sessions[index].pointee.state = .negotiating
    sessions[index].pointee.isLocalClient = client.address.isLoopback
    negotiation(of: index).startServer(
      ServerHandshake(
        logins: configuration.serverLogins,
        relaysDatagrams: configuration.servesDatagrams, listens: configuration.servesListeners))
    timers.schedule(index, at: now + configuration.timeouts.handshake)
  }

  func driveNegotiating(_ index: Int) {
    let session = sessions[index]
    guard let socket = session.pointee.downstream?.rawValue else {
      preconditionFailure("a session without a client")
    }
    let negotiation = negotiation(of: index)
    while true {
      guard flushToClient(index) else { return }
      guard session.pointee.downstreamReadiness.contains(.readable) else { return }
      switch receive(socket, into: resources.scratch) {
      case .bytes(0):
        fail(index, .clientRejected)
        return
      case .bytes(let count):
        if count < resources.scratch.count,
          session.pointee.downstreamReadiness.isDisjoint(with: .moreToRead)
        {
          session.pointee.downstreamReadiness.remove(.readable)
        }
        let input = UnsafeRawBufferPointer(rebasing: resources.scratch[..<count])
        let (consumed, action) = negotiation.receiveAsServer(input)
        switch action {
        case .receive: continue
        case .connect(let endpoint), .bind(let endpoint):
          // What follows the request is for the target; a client need not wait for the reply.
          session.pointee.upstreamward.hold(
            UnsafeRawBufferPointer(rebasing: input[consumed...]), &resources)
          negotiation.destination = endpoint
          if case .bind = action { negotiation.command = .bind }
          open(endpoint, for: index)
          return
        case .associate(let declared):
          associate(index, declared: declared)
          return
        case .reject:
          note(.clientRejected, of: index)
          beginRejecting(index)
          return
        }
      case .wouldBlock:
        session.pointee.downstreamReadiness.remove(.readable)
      case .failed:
        fail(index, .resetByDownstream)
        return
      }
    }
  }

  /// Sends what the server machine wrote; false if the session is gone.
  func flushToClient(_ index: Int) -> Bool {
    let session = sessions[index]
    guard session.pointee.downstreamReadiness.contains(.writable),
      let socket = session.pointee.downstream?.rawValue
    else { return true }
    switch negotiation(of: index).flush(to: socket) {
    case .bytes: break
    case .wouldBlock: session.pointee.downstreamReadiness.remove(.writable)
    case .failed:
      fail(index, .resetByDownstream)
      return false
    }
    return true
  }

  // MARK: The target

  private func open(_ endpoint: Endpoint, for index: Int) {
    let negotiation = negotiation(of: index)
    switch endpoint {
    case .address(let address) where negotiation.command == .bind && address.address.isUnspecified:
      listen(index)
    case .address(let address):
      reach([address], for: index)
    case .name(let name, _):
      guard verdict(on: endpoint) != .denied else {
        refuse(index, .destinationNotAllowed, .notAllowed)
        return
      }
      let session = sessions[index]
      session.pointee.state = .resolving
      let token = Token(.downstream, index: index, generation: session.pointee.generation)
      if !resolver.resolve(name, for: token.rawValue, answerTo: mailbox) {
        refuse(index, .resourcesExhausted, .generalFailure)
      }
    }
  }

  func driveResolving(_ index: Int) {
    if sessions[index].pointee.downstreamReadiness.contains(.error) {
      fail(index, .resetByDownstream)
    }
  }

  func handleResolved(_ token: Token, _ name: HostName, _ addresses: [IPAddress]) {
    guard let session = sessions.find(token) else { return }
    if let association = session.pointee.association {
      sendWaiting(to: name, at: addresses.first, of: token.index, association)
    }
    guard session.pointee.state == .resolving else { return }
    let negotiation = negotiation(of: token.index)
    guard !addresses.isEmpty else {
      refuse(token.index, .nameNotResolved, .hostUnreachable)
      return
    }
    let port = negotiation.destination?.port ?? 0
    reach(addresses.lazy.map { SocketAddress($0, port) }, for: token.index)
  }

  /// Goes on to those of the target's addresses that the client may reach, in this order; or waits for a
  /// connection from one of them.
  private func reach(_ addresses: some Sequence<SocketAddress>, for index: Int) {
    let negotiation = negotiation(of: index)
    for address in addresses where permits(address, of: negotiation.destination, for: index) {
      negotiation.candidates.append(address.unmapped)
    }
    guard !negotiation.candidates.isEmpty else {
      refuse(index, .destinationNotAllowed, .notAllowed)
      return
    }
    negotiation.candidates.reverse()
    if negotiation.command == .bind {
      listen(index)
    } else {
      connectNext(index, after: nil)
    }
  }

  /// Tries the next address of the target, after the former has failed in this way. When there is none
  /// left, the client is told the error that says most, or by RST where it does not speak SOCKS.
  func connectNext(_ index: Int, after errno: Errno?) {
    let negotiation = negotiation(of: index)
    if let errno { negotiation.note(errno) }
    sessions[index].pointee.upstream = nil
    while let address = negotiation.nextCandidate() {
      guard let errno = connect(index, to: address) else { return }
      negotiation.note(errno)
    }
    guard let error = negotiation.targetError else { preconditionFailure("nothing was tried") }
    if sessions[index].pointee.origin.isServed {
      refuse(index, error.failure, error.replyCode)
    } else {
      fail(index, error.failure)
    }
  }

  /// The connection stands: the reply is the first thing that the relay sends to the client.
  func completeServing(_ index: Int) {
    let session = sessions[index]
    let bound = session.pointee.upstream?.localAddress ?? SocketAddress(.v4(.any), 0)
    let negotiation = negotiation(of: index)
    negotiation.replyAsServer(.succeeded, bound: bound.unmapped)
    session.pointee.downstreamward.hold(negotiation.unsent, &resources)
    beginRelay(index)
  }

  // MARK: Refusal

  func refuse(_ index: Int, _ failure: Failure, _ code: ReplyCode) {
    let negotiation = negotiation(of: index)
    note(failure, of: index)
    negotiation.replyAsServer(code, bound: SocketAddress(.v4(.any), 0))
    beginRejecting(index)
  }

  /// Sends the refusal, then the end of the stream, and waits for the client's: closing with its
  /// bytes unread would send RST, and the client might never see why.
  private func beginRejecting(_ index: Int) {
    sessions[index].pointee.state = .rejecting
    timers.schedule(index, at: now + Self.rejectTimeout)
    driveRejecting(index)
  }

  func driveRejecting(_ index: Int) {
    let session = sessions[index]
    guard flushToClient(index), let socket = session.pointee.downstream?.rawValue else { return }
    guard negotiation(of: index).unsent.isEmpty else { return }
    StreamSocket.shutdownSending(socket)
    while session.pointee.downstreamReadiness.contains(.readable) {
      switch receive(socket, into: resources.scratch) {
      case .bytes(0), .failed:
        close(index)
        return
      case .bytes: continue
      case .wouldBlock: session.pointee.downstreamReadiness.remove(.readable)
      }
    }
  }
}
