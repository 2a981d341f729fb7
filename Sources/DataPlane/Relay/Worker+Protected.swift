internal import Addressing
internal import GSSAPI
internal import LinuxIO
internal import SOCKS

/// Sessions through an upstream by GSSAPI: the steps of their handshakes, and their relay, in which every
/// byte is wrapped or unwrapped here.
extension Worker {
  /// Bytes of the application moved per turn and direction at most.
  private static let protectedTurnBytes = 512 * 1024

  // MARK: Steps

  /// Has the step made that the handshake of `token` asks for; false if there is no room for one more.
  func beginStep(of negotiation: Negotiation, for token: Token) -> Bool {
    guard let channel = negotiation.channel, let stepper = member(of: negotiation).stepper else {
      preconditionFailure("a step without a security context")
    }
    return stepper.step(channel.context, channel.token, for: token.rawValue, answerTo: mailbox)
  }

  /// Goes on with the handshake whose step has been made, if it is still there.
  func handleStepped(_ token: Token, _ result: Result<SecurityStep, SecurityFailure>) {
    switch token.kind {
    case .upstream:
      guard let session = sessions.find(token),
        session.pointee.state == .handshaking || session.pointee.state == .binding
      else { return }
      negotiation(of: token.index).channel?.handleStep(result)
      drive(token.index)
    case .contender:
      guard let contender = contenders.find(token) else { return }
      negotiations[Int(contender.pointee.negotiation)].channel?.handleStep(result)
      driveContender(token.index)
    case .associationControl:
      guard let association = datagrams.associations.slots.find(token),
        association.pointee.state == .handshaking
      else { return }
      negotiations[Int(association.pointee.negotiation)].channel?.handleStep(result)
      driveAssociating(token.index)
    case .resolver:
      guard let connection = resolvers.find(token), connection.state == .handshaking else { return }
      connection.negotiation.channel?.handleStep(result)
      driveResolver(token.index)
    case .downstream, .listener, .waker, .associationLeg, .associationRelay, .datagramListener,
      .servedRelay, .servedExit, .servedExitV6, .pooled:
      preconditionFailure("nobody of this kind makes steps")
    }
  }

  // MARK: The relay

  /// Begins the relay of a session whose handshake is through, and whose channel has what came behind the
  /// reply.
  func beginProtectedRelay(_ index: Int) {
    sessions[index].pointee.state = .protected
    beginTiming(index)
    driveProtected(index)
  }

  func driveProtected(_ index: Int) {
    let session = sessions[index]
    guard let channel = negotiation(of: index).protection else {
      preconditionFailure("a protected session without a channel")
    }
    let wasHalfClosed = session.pointee.isHalfClosed
    var (sent, received) = (0, 0)
    let upward = pumpUpward(session, channel, moved: &sent)
    let downward = pumpDownward(session, channel, moved: &received)
    noteMoved(index, sent: sent, received: received)

    if let failure = failure(upward, downward, session) {
      fail(index, failure)
    } else if session.pointee.upstreamward.hasEnded, session.pointee.downstreamward.hasEnded {
      close(index)
    } else {
      if session.pointee.isHalfClosed, !wasHalfClosed { beginHalfCloseTiming(index) }
      if upward == .yielded || downward == .yielded {
        enqueue(index)
      } else {
        channel.releaseIdle()
      }
    }
  }

  /// What came of one direction's turn.
  private enum ProtectedProgress: Equatable {
    /// Nothing more can be done until an event comes, or ever.
    case blocked
    /// The turn's share is used up; there may be more to do at once.
    case yielded
    case failed(Failure)
  }

  /// From the application into messages.
  private func pumpUpward(
    _ session: UnsafeMutablePointer<Session>, _ channel: ProtectedChannel, moved: inout Int
  ) -> ProtectedProgress {
    let (downstream, upstream) = sockets(of: session)
    let chunk = UnsafeMutableRawBufferPointer(
      rebasing: resources.scratch[..<ProtectedChannel.messageBytes])
    while !session.pointee.upstreamward.hasEnded {
      if !channel.isSent {
        guard session.pointee.upstreamReadiness.contains(.writable) else { return .blocked }
        switch channel.flush(to: upstream) {
        case .bytes: break
        case .wouldBlock:
          session.pointee.upstreamReadiness.remove(.writable)
          return .blocked
        case .failed: return .failed(.resetByUpstream)
        }
      }
      guard session.pointee.downstreamReadiness.contains(.readable) else { return .blocked }
      guard moved < Self.protectedTurnBytes else { return .yielded }
      switch receive(downstream, into: chunk) {
      case .bytes(0):
        session.pointee.upstreamward.end()
        if !session.pointee.downstreamward.hasEnded, !holdsUpstream(session) {
          StreamSocket.shutdownSending(upstream)
        }
      case .bytes(let count):
        do throws(HandshakeFailure) {
          try channel.wrap(UnsafeRawBufferPointer(rebasing: chunk[..<count]))
        } catch {
          return .failed(Failure(error))
        }
        moved += count
      case .wouldBlock: session.pointee.downstreamReadiness.remove(.readable)
      case .failed: return .failed(.resetByDownstream)
      }
    }
    return .blocked
  }

  /// Out of messages to the application.
  private func pumpDownward(
    _ session: UnsafeMutablePointer<Session>, _ channel: ProtectedChannel, moved: inout Int
  ) -> ProtectedProgress {
    let (downstream, upstream) = sockets(of: session)
    var share = Self.protectedTurnBytes
    while !session.pointee.downstreamward.hasEnded {
      if !channel.isDelivered {
        guard session.pointee.downstreamReadiness.contains(.writable) else { return .blocked }
        let waiting = channel.undeliveredCount
        let result = channel.deliver(to: downstream)
        moved += waiting - channel.undeliveredCount
        switch result {
        case .bytes: break
        case .wouldBlock:
          session.pointee.downstreamReadiness.remove(.writable)
          return .blocked
        case .failed: return .failed(.resetByDownstream)
        }
      }
      do throws(HandshakeFailure) {
        if try channel.unwrapNext() { continue }
      } catch {
        return .failed(Failure(error))
      }
      guard session.pointee.upstreamReadiness.contains(.readable) else { return .blocked }
      guard share > 0 else { return .yielded }
      switch receive(upstream, into: channel.room) {
      case .bytes(0):
        // Somebody may have cut the connection in order that less arrives than was sent.
        guard !channel.isTruncated else { return .failed(.protocolViolation) }
        session.pointee.downstreamward.end()
        if !session.pointee.upstreamward.hasEnded { StreamSocket.shutdownSending(downstream) }
      case .bytes(let count):
        channel.didReceive(count)
        share -= count
      case .wouldBlock: session.pointee.upstreamReadiness.remove(.readable)
      case .failed: return .failed(.resetByUpstream)
      }
    }
    return .blocked
  }

  private func sockets(
    of session: UnsafeMutablePointer<Session>
  ) -> (downstream: Int32, upstream: Int32) {
    guard let downstream = session.pointee.downstream?.rawValue,
      let upstream = session.pointee.upstream?.rawValue
    else { preconditionFailure("a relay with one end") }
    return (downstream, upstream)
  }

  /// Whether the session has met its end, as `driveRelaying` sees it.
  private func failure(
    _ upward: ProtectedProgress, _ downward: ProtectedProgress,
    _ session: UnsafeMutablePointer<Session>
  ) -> Failure? {
    if case .failed(let failure) = upward { return failure }
    if case .failed(let failure) = downward { return failure }
    if session.pointee.downstreamReadiness.contains(.error) { return .resetByDownstream }
    let isDelivered =
      downward != .yielded && session.pointee.downstreamReadiness.contains(.writable)
    return session.pointee.upstreamReadiness.contains(.error) && isDelivered
      ? .resetByUpstream : nil
  }
}
