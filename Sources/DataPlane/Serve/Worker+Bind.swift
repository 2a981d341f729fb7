internal import Addressing
internal import LinuxIO
internal import SOCKS

/// BIND of the embedded server (RFC 1928, section 4): a listener in place of the connection to a target,
/// until the peer comes that the client has named. Its descriptor is the second of its session.
///
/// The first reply tells where it listens, the second one who came. Others are hung up on.
extension Worker {
  /// Sessions of one worker that wait for their peer at most: each holds a port.
  static let maximumListening = 64
  /// Connections of others that are closed per turn at most.
  private static let strangersPerTurn = 16
  private static let backlog: Int32 = 16
  /// The first port that needs no privilege (`net.ipv4.ip_unprivileged_port_start` by default): a client
  /// gets none below it, whatever the server may do.
  private static let firstOrdinaryPort: UInt16 = 1024
  /// Any port leads the same way.
  private static let somePort: UInt16 = 9

  /// Opens the listener for a session whose candidates are those who may come; anybody if there are none.
  func listen(_ index: Int) {
    guard listeningCount < Self.maximumListening else {
      refuse(index, .resourcesExhausted, .generalFailure)
      return
    }
    let bound: SocketAddress
    do {
      bound = try openListener(of: index)
    } catch {
      let error = TargetError(errno: error, isIPv4: true)
      refuse(index, error.failure, error.replyCode)
      return
    }
    sessions[index].pointee.state = .listening
    listeningCount += 1
    negotiation(of: index).replyAsServer(.succeeded, bound: bound)
    timers.schedule(index, at: now + configuration.timeouts.peer)
    driveListening(index)
  }

  private func openListener(of index: Int) throws(Errno) -> SocketAddress {
    var options = StreamSocket.ListenOptions(mark: configuration.mark)
    options.reusePort = false
    options.backlog = Self.backlog
    let address = try listeningAddress(of: index)
    let listener = try openListener(
      at: address, wishing: negotiation(of: index).destination?.port ?? 0, options)
    guard let bound = listener.localAddress else { throw .addressNotAvailable }
    try setUpstream(of: index, listener)
    return bound
  }

  /// At the port that the client has named, if that can be had, as other servers do: the next peer of a
  /// service is to find it where the one before did. It may as well be the peer's (RFC 1928, section 4),
  /// for which any port is as good.
  private func openListener(
    at address: IPAddress, wishing port: UInt16, _ options: StreamSocket.ListenOptions
  ) throws(Errno) -> Descriptor {
    if port >= Self.firstOrdinaryPort {
      do {
        return try StreamSocket.listen(on: SocketAddress(address, port), options)
      } catch .addressInUse, .accessDenied {
        // Any other, then.
      }
    }
    return try StreamSocket.listen(on: SocketAddress(address, 0), options)
  }

  /// Our address on the way to the peer; where the client has not named one, the address at which it has
  /// reached us.
  private func listeningAddress(of index: Int) throws(Errno) -> IPAddress {
    let own =
      if let peer = negotiation(of: index).candidates.last {
        try DatagramSocket.connect(
          to: SocketAddress(peer.address, Self.somePort),
          DatagramSocket.Options(mark: configuration.mark)
        ).localAddress
      } else {
        sessions[index].pointee.downstream?.localAddress
      }
    guard let own else { throw .addressNotAvailable }
    return own.address
  }

  /// Sends the first reply, and takes who comes. A client that ends its stream waits for nobody.
  func driveListening(_ index: Int) {
    guard flushToClient(index) else { return }
    let session = sessions[index]
    if session.pointee.downstreamReadiness.contains(.error) {
      fail(index, .resetByDownstream)
      return
    }
    if !session.pointee.downstreamReadiness.isDisjoint(with: [.readClosed, .hangUp]) {
      // By the time the client sees its end, nobody can come any more.
      session.pointee.upstream = nil
      close(index)
      return
    }
    guard session.pointee.upstreamReadiness.contains(.readable),
      let listener = session.pointee.upstream?.rawValue
    else { return }
    for _ in 0..<Self.strangersPerTurn {
      switch StreamSocket.accept(from: listener) {
      case .connection(let socket, let peer):
        guard isAwaited(peer, by: index) else { continue }
        completeListening(index, socket, from: peer)
        return
      case .aborted: continue
      case .none:
        session.pointee.upstreamReadiness.remove(.readable)
        return
      case .failed:
        refuseListening(index, .resourcesExhausted, .generalFailure)
        return
      }
    }
    enqueue(index)
  }

  private func isAwaited(_ peer: SocketAddress, by index: Int) -> Bool {
    let awaited = negotiation(of: index).candidates
    return awaited.isEmpty
      ? permits(peer, for: index) : awaited.contains { $0.address == peer.address }
  }

  private func completeListening(
    _ index: Int, _ socket: consuming Descriptor, from peer: SocketAddress
  ) {
    let session = sessions[index]
    do {
      try setUpstream(of: index, socket)
    } catch {
      refuseListening(index, .resourcesExhausted, .generalFailure)
      return
    }
    listeningCount -= 1
    let negotiation = negotiation(of: index)
    negotiation.replyAsServer(.succeeded, bound: peer)
    session.pointee.downstreamward.hold(negotiation.unsent, &resources)
    beginRelay(index)
  }

  func handleListeningTimeout(_ index: Int) {
    refuseListening(index, .peerTimeout, .ttlExpired)
  }

  /// The second reply is a refusal.
  private func refuseListening(_ index: Int, _ failure: Failure, _ code: ReplyCode) {
    listeningCount -= 1
    sessions[index].pointee.upstream = nil
    refuse(index, failure, code)
  }
}
