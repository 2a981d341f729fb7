internal import Addressing
internal import LinuxIO
internal import SOCKS

/// Several upstreams are asked for the same destination at once, and the first good reply wins. One that is
/// slow or dead costs the flow nothing. A word about the target ends the race as well, since it is the
/// same for all.
extension Worker {
  /// How many upstreams are asked for one flow at the same time.
  private static let maximumContenders = 3

  func beginRace(_ index: Int) {
    sessions[index].pointee.state = .racing
    let negotiation = negotiation(of: index)
    negotiation.handshakeDeadline =
      now + configuration.timeouts.connect + configuration.timeouts.handshake
    startContenders(index, after: .connectFailed)
  }

  /// Starts as many as there may be: living ones, or, when all of those have failed, the others.
  /// - Parameter failure: the session's, if there is nobody left to be asked.
  private func startContenders(_ index: Int, after failure: Failure) {
    guard let group = configuration.group,
      case .captured(let destination) = sessions[index].pointee.origin
    else { preconditionFailure("a race of no group, or for no flow") }
    let able = group.able(
      negotiation(of: index).allowed, toReachIPv4: destination.address.address.isIPv4)
    var last = failure
    while sessions[index].pointee.state == .racing, negotiation(of: index).contenders.isEmpty {
      let negotiation = negotiation(of: index)
      let untried = able.subtracting(negotiation.tried)
      let alive = untried.intersection(group.alive)
      var rest = alive.isEmpty ? untried : alive
      guard !rest.isEmpty else {
        fail(index, last)
        return
      }
      while negotiation.contenders.count < Self.maximumContenders,
        let member = group.ranking.first(of: rest)
      {
        rest.remove(member)
        negotiation.tried.insert(member)
        negotiation.member = member
        if let failure = startContender(member, for: index, of: group) {
          last = failure
          // Without room for one more, those that are under way go on.
          guard
            noteFailure(failure, of: member, in: group) || !negotiation.contenders.isEmpty
          else {
            fail(index, failure)
            return
          }
        }
      }
    }
    timers.schedule(index, at: now + configuration.timeouts.connect)
  }

  /// Returns why that one cannot take part.
  private func startContender(
    _ member: Int, for index: Int, of group: UpstreamGroup
  ) -> Failure? {
    guard budget.take(1) else { return .resourcesExhausted }
    let number = contenders.take()
    let contender = contenders[number]
    if let failure = connect(contender, number, to: group.members[member]) {
      contenders.giveBack(number)
      budget.giveBack(1)
      return failure
    }
    contender.pointee.session = Int32(index)
    contender.pointee.negotiation = negotiations.take()
    let (own, base) = (negotiation(of: contender), negotiation(of: index))
    own.member = member
    own.flow = base.flow
    enter(.connect, own)
    base.contenders.append(Int32(number))
    return nil
  }

  private func connect(
    _ contender: UnsafeMutablePointer<Contender>, _ number: Int, to upstream: Upstream
  ) -> Failure? {
    do throws(Errno) {
      // Nobody waits for room in the queue of a Unix socket.
      guard let socket = try connect(to: upstream) else { return .connectFailed }
      try epoll.add(
        socket.rawValue, [.readable, .writable, .edgeTriggered],
        token: Token(.contender, index: number, generation: contender.pointee.generation).rawValue)
      contender.pointee.socket = consume socket
      return nil
    } catch {
      return Failure(connecting: error)
    }
  }

  private func negotiation(of contender: UnsafeMutablePointer<Contender>) -> Negotiation {
    negotiations[Int(contender.pointee.negotiation)]
  }

  // MARK: Events

  func handleContender(_ token: Token, _ readiness: Readiness) {
    guard let contender = contenders.find(token) else { return }
    contender.pointee.readiness.formUnion(readiness)
    driveContender(token.index)
  }

  func driveContender(_ number: Int) {
    let contender = contenders[number]
    guard contender.pointee.isHandshaking || beginContending(number),
      let socket = contender.pointee.socket?.rawValue
    else { return }
    let negotiation = negotiation(of: contender)
    switch negotiation.advanceAsClient(
      on: socket, &contender.pointee.readiness, with: resources.scratch)
    {
    case .waiting: enter(negotiation.flowPhase, negotiation)
    case .stepping:
      let token = Token(.contender, index: number, generation: contender.pointee.generation)
      if !beginStep(of: negotiation, for: token) { lose(number, .resourcesExhausted) }
    case .established(let rest): win(number, rest)
    case .failed(let failure):
      let failure = Failure(failure, of: negotiation)
      doubtPipelining(of: negotiation, after: failure)
      lose(number, failure)
    }
  }

  /// Begins the handshake of one that is connected; false while it is not.
  private func beginContending(_ number: Int) -> Bool {
    let contender = contenders[number]
    if !contender.pointee.readiness.isDisjoint(with: [.error, .hangUp]) {
      lose(number, Failure(connecting: contender.pointee.socket?.pendingError ?? .connectionReset))
      return false
    }
    guard contender.pointee.readiness.contains(.writable),
      let destination = requestedDestination(of: Int(contender.pointee.session))
    else { return false }
    contender.pointee.isHandshaking = true
    let negotiation = negotiation(of: contender)
    negotiation.flow?.destination = destination
    negotiation.startClient(.connect, to: destination, at: member(of: negotiation))
    enter(negotiation.flowPhase, negotiation)
    return true
  }

  func driveRacing(_ index: Int) {
    if sessions[index].pointee.downstreamReadiness.contains(.error) {
      fail(index, .resetByDownstream)
    }
  }

  /// Those that are still being connected to have had their time, and so have those whose handshake hangs;
  /// who waits for the destination goes on.
  func handleRaceTimeout(_ index: Int) {
    guard let group = configuration.group else { return }
    let negotiation = negotiation(of: index)
    let isOver = negotiation.handshakeDeadline <= now
    for number in negotiation.contenders.map(Int.init) {
      // The loss of one may have ended the race.
      guard sessions[index].pointee.state == .racing,
        contenders[number].pointee.session == Int32(index)
      else { return }
      let own = self.negotiation(of: contenders[number])
      if !contenders[number].pointee.isHandshaking {
        lose(number, .connectTimeout)
      } else if isOver || !own.awaitsDestination {
        if !own.awaitsDestination { group.takeOut(own.member, after: .handshakeTimeout) }
        doubtPipelining(of: own, after: .handshakeTimeout)
        lose(number, .handshakeTimeout)
      } else {
        group.doubt(own.member)
      }
    }
    guard sessions[index].pointee.state == .racing else { return }
    timers.schedule(index, at: now + configuration.timeouts.connect)
  }

  // MARK: The end

  /// The first good reply: its connection becomes the session's.
  private func win(_ number: Int, _ rest: UnsafeRawBufferPointer) {
    let contender = contenders[number]
    let index = Int(contender.pointee.session)
    let session = sessions[index]
    let token = Token(.upstream, index: index, generation: session.pointee.generation)
    configuration.group?.bringBack(negotiation(of: contender).member)
    guard let socket = contender.pointee.socket.take() else {
      preconditionFailure("a winner without a connection")
    }
    session.pointee.upstreamReadiness = contender.pointee.readiness
    let isWatched =
      (try? epoll.modify(
        socket.rawValue, [.readable, .writable, .edgeTriggered], token: token.rawValue)) != nil
    session.pointee.upstream = consume socket
    adopt(number)
    guard isWatched else {
      fail(index, .resourcesExhausted)
      return
    }
    beginRelay(index, rest: rest)
  }

  /// One is out of the race.
  private func lose(_ number: Int, _ failure: Failure) {
    let contender = contenders[number]
    let index = Int(contender.pointee.session)
    let base = negotiation(of: index)
    guard let group = configuration.group,
      noteFailure(failure, of: negotiation(of: contender).member, in: group)
    else {
      adopt(number)
      fail(index, failure)
      return
    }
    base.member = negotiation(of: contender).member
    base.contenders.removeAll { $0 == Int32(number) }
    end(number)
    guard base.contenders.isEmpty else { return }
    counters.add(to: .handshakesRetried)
    startContenders(index, after: failure)
  }

  /// The session goes on, or ends, with what this one has negotiated; the others are closed.
  private func adopt(_ number: Int) {
    let contender = contenders[number]
    let session = sessions[Int(contender.pointee.session)]
    let own = contender.pointee.negotiation
    contender.pointee.negotiation = -1
    endContenders(of: Int(contender.pointee.session))
    session.pointee.state = .handshaking
    releaseNegotiation(&session.pointee.negotiation)
    session.pointee.negotiation = own
  }

  /// Closes all that race for a session.
  func endContenders(of index: Int) {
    let base = negotiation(of: index)
    for number in base.contenders { end(Int(number)) }
    base.contenders.removeAll(keepingCapacity: true)
  }

  private func end(_ number: Int) {
    let contender = contenders[number]
    releaseNegotiation(&contender.pointee.negotiation)
    contenders.giveBack(number)
    budget.giveBack(1)
  }
}
