internal import Addressing
internal import LinuxIO
internal import SOCKS

/// From a listener's queue to a session.
extension Worker {
  /// Connections taken from one listener per turn at most.
  private static let acceptsPerTurn = 64
  /// A session's two sockets.
  static let descriptorsPerSession = 2

  /// Opens this worker's socket of a listener.
  func open(_ listener: ListenerConfiguration) throws(Errno) {
    let isShared = listener.ingress.isServing && configuration.servingSockets != nil
    let socket =
      if let socket = listener.ingressSocket {
        try configuration.obtain(socket)
      } else if isShared, let handed = configuration.servingSockets {
        handed.take(.stream(listener.address, isTransparent: false))
      } else {
        try StreamSocket.listen(on: listener.address, .init(mark: configuration.mark))
      }
    let listener = try Listener(listener.ingress, socket, isShared: isShared)
    if listener.ingress.isCapturing, StreamSocket.hasLeftPacing(listener.socket) {
      acceptsUnpaced = true
    }
    try startAwaiting(listener, at: listeners.count)
    listeners.append(listener)
  }

  private func startAwaiting(_ listener: Listener, at index: Int) throws(Errno) {
    try epoll.add(
      listener.socket.rawValue, .acceptable, token: Token(.listener, index: index).rawValue)
  }

  /// Closes this worker's socket of a listener. Somebody else may keep a copy of it, so that connections
  /// wait there: without being told, the kernel would go on telling us of them.
  func close(listenerAt index: Int) {
    guard let listener = listeners[index] else { return }
    try? epoll.remove(listener.socket.rawValue)
    listeners[index] = nil
  }

  /// - Returns: whether more may wait.
  @discardableResult
  func accept(from index: Int) -> Bool {
    guard let listener = listeners[index] else { return false }
    // The other half is for the other halves of the same flows.
    let isBounded =
      configuration.servesItself && !configuration.connectsDirectly && !listener.ingress.isServing
    var hasAccepted = false
    defer {
      if hasAccepted, listener.isShared, pausedUntil == nil { letOthersNext(listener, at: index) }
    }
    for _ in 0..<Self.acceptsPerTurn {
      guard budget.take(Self.descriptorsPerSession, share: isBounded ? .half : .all) else {
        pauseAccepting(nil)
        return false
      }
      switch StreamSocket.accept(from: listener.socket) {
      case .connection(let socket, let peer):
        begin(socket, from: peer, by: listener)
        hasAccepted = true
      case .none:
        budget.giveBack(Self.descriptorsPerSession)
        return false
      case .aborted:
        budget.giveBack(Self.descriptorsPerSession)
      case .failed(let error):
        budget.giveBack(Self.descriptorsPerSession)
        pauseAccepting(error)
        return false
      }
    }
    return true
  }

  /// Has the next connection wake another worker, by waiting last: the first would get all that come while it
  /// has nothing else to do.
  private func letOthersNext(_ listener: Listener, at index: Int) {
    do {
      try epoll.remove(listener.socket.rawValue)
      try startAwaiting(listener, at: index)
    } catch {
      pauseAccepting(error)
    }
  }

  /// A new connection; two descriptors have been taken from the budget for it.
  private func begin(
    _ socket: consuming Descriptor, from peer: SocketAddress, by listener: Listener
  ) {
    switch listener.ingress {
    case .redirect, .tproxy: beginCaptured(socket, from: peer, by: listener)
    case .socks: beginServing(socket, from: peer)
    case .forward(let targets, let forwarding): beginForwarding(socket, to: targets, forwarding)
    }
  }

  private func beginCaptured(
    _ socket: consuming Descriptor, from peer: SocketAddress, by listener: Listener
  ) {
    precondition(configuration.group != nil, "a capturing listener without an upstream")
    let destination: OriginalDestination
    do {
      destination = try listener.destination(of: socket)
    } catch {
      refuse(socket, .noOriginalDestination, destination: nil)
      return
    }
    if let cause = listener.isDirect(destination, of: socket)
      ? .connectionToListener : loops?.check(destination, now: now)
    {
      refuse(socket, .loop, destination: destination)
      reportLoop(cause, destination)
      return
    }
    if acceptsUnpaced { ShortPath.resumePacingIfLong(socket) }
    beginCaptured(socket, from: peer, to: destination)
    if loops?.isSuspicious(sessions: sessions.count, now: now) == true {
      investigateLoop(destination, peer: peer)
    }
  }

  /// Resets a connection that never became a session.
  func refuse(
    _ socket: consuming Descriptor, _ failure: Failure, destination: OriginalDestination?
  ) {
    socket.resetOnClose()
    budget.giveBack(Self.descriptorsPerSession)
    note(failure, destination: destination.map { .address($0.address) })
  }

  /// Counts a failure, and tells of it if that has not just been done.
  func note(_ failure: Failure, destination: Endpoint?, _ part: UpstreamPart = UpstreamPart()) {
    counters.add(failure)
    if failure.isTrouble { counters.add(to: .sessionsFailed) }
    if let count = problems.note(failure, now: now) {
      report(.failures(failure, count: count, destination: destination, part))
    }
  }

  /// A stream to an application has been found short and paced: those that come later are not paced from the
  /// begin, which leaves no timers (`StreamSocket.leavePacing`).
  func leavePacingOfAccepted() {
    guard !acceptsUnpaced else { return }
    acceptsUnpaced = true
    for case let listener? in listeners where listener.ingress.isCapturing {
      StreamSocket.leavePacing(ofAcceptedBy: listener.socket)
    }
  }

  // MARK: Loops

  /// Tells a loop if that has not just been done: every connection or datagram may be one.
  func reportLoop(_ cause: LoopCause, _ destination: OriginalDestination) {
    guard problems.isDue(cause, now: now) else { return }
    report(.loop(cause, destination: destination.address))
  }

  /// Finds out whether the newest of many sessions is a flow that goes round, and if so ends all that
  /// go where it goes.
  private func investigateLoop(_ destination: OriginalDestination, peer: SocketAddress) {
    let owner = SocketOwner.connected(from: peer, to: destination.address)
    guard let cause = loops?.judge(owner, of: destination, now: now) else { return }
    for index in sessions.indices where sessions[index].pointee.state != .vacant {
      if case .captured(destination) = sessions[index].pointee.origin { fail(index, .loop) }
    }
    reportLoop(cause, destination)
  }

  // MARK: Pausing

  /// Stops accepting until there is room: an epoll that reports what cannot be accepted would spin.
  private func pauseAccepting(_ error: Errno?) {
    if pausedUntil == nil {
      counters.add(to: .acceptPauses)
      report(.acceptPaused(error))
      emptyPool()
      for case let listener? in listeners { try? epoll.remove(listener.socket.rawValue) }
    }
    pausedUntil = now + Self.pauseInterval
  }

  /// Accepts again after a pause; if there is still no room, the first accept pauses anew.
  func resumeAccepting() {
    guard let until = pausedUntil, until <= now else { return }
    pausedUntil = nil
    for (index, listener) in listeners.enumerated() {
      guard let listener else { continue }
      do {
        try startAwaiting(listener, at: index)
      } catch {
        pauseAccepting(error)
        return
      }
    }
  }
}
