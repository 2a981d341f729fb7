internal import Addressing
internal import DNS
internal import LinuxIO
internal import SOCKS

/// DNS by TCP (RFC 7766): captured queries that an upstream without UDP carries through CONNECT. Every
/// query that can be read ends in a call of `deliver`: with its answer, or with SERVFAIL.
extension Worker {
  /// Receipts from one connection per turn at most.
  private static let receiptsPerTurn = 16

  /// Sends a query on its way; it may be called on any worker.
  func carryQuery(_ query: CapturedQuery) {
    if !carrier.owns(mailbox) {
      if !carrier.post(query) { refuse(query) }
      return
    }
    guard let message = Query(query.message) else {
      note(.queryMalformed, resolver: query.resolver)
      return
    }
    guard resolvers.quota.take(query.client.address) else {
      refuse(query)
      return
    }
    let index = resolvers.index(of: query.resolver) ?? addResolver(query.resolver)
    let connection = resolvers[index]
    resolvers.noteUse(index, now: now)
    let requester = Requester(client: query.client, destination: query.destination)
    guard connection.pipeline.add(message, for: requester, now: now.milliseconds) else {
      resolvers.quota.giveBack(query.client.address)
      refuse(query)
      return
    }
    counters.add(to: .queriesCarried)
    audit(queryTo: query.destination, sent: query.message.count)
    driveResolver(index)
  }

  /// Another worker's query has arrived.
  func handleCarried(_ query: CapturedQuery) {
    carrier.noteArrival()
    carryQuery(query)
  }

  func handleResolverEvent(_ token: Token, _ readiness: Readiness) {
    guard let connection = resolvers.find(token) else { return }
    connection.readiness.formUnion(readiness)
    driveResolver(token.index)
  }

  func handleResolverTimeout(_ index: Int) {
    let connection = resolvers[index]
    var hasExpired = false
    while let completion = connection.pipeline.expire(now: now.milliseconds) {
      note(.queryUnanswered, resolver: connection.resolver)
      fail(completion)
      hasExpired = true
    }
    if connection.isEstablishing, connection.deadline <= now {
      lose(connection, connection.state == .connecting ? .connectTimeout : .handshakeTimeout)
    } else if connection.state == .open, hasExpired, isSilent(connection) {
      // Nobody may be there any more; TCP itself would take a quarter of an hour to find out.
      lose(connection, .resolverClosed)
    }
    if connection.pipeline.isEmpty, connection.lastQuery + ResolverConnection.idleTimeout <= now {
      removeResolver(index)
    } else {
      driveResolver(index)
    }
  }

  /// Whether the connection has brought no answer for as long as a query waits.
  private func isSilent(_ connection: ResolverConnection) -> Bool {
    connection.lastAnswer.map { $0 + configuration.timeouts.dns <= now } ?? true
  }

  /// Closes the connections that no query waits for; the others follow when none does any more.
  func drainResolvers() {
    for index in resolvers.all where resolvers[index].pipeline.isEmpty { removeResolver(index) }
  }

  /// Closes every connection. Clients are told nothing: they ask again, and then not through us.
  func endResolvers() {
    for index in resolvers.all { removeResolver(index) }
  }

  // MARK: The table

  private func addResolver(_ resolver: SocketAddress) -> Int {
    if resolvers.isFull, let index = resolvers.leastRecentlyUsed {
      let connection = resolvers[index]
      let unanswered = connection.pipeline.giveUp()
      if !unanswered.isEmpty { note(.queryRefused, resolver: connection.resolver) }
      for completion in unanswered { fail(completion) }
      removeResolver(index)
    }
    return resolvers.insert(
      ResolverConnection(resolver, timeout: configuration.timeouts.dns, now: now))
  }

  private func removeResolver(_ index: Int) {
    close(resolvers[index])
    resolvers.remove(index)
    reportIfDrained()
  }

  // MARK: The connection

  /// Goes on with the resolver at `index` as far as it gets. It cannot go round for long: after a few
  /// connections that brought nothing no query is left to make another for.
  func driveResolver(_ index: Int) {
    let connection = resolvers[index]
    connection.hasYielded = false
    while let failure = advance(connection, at: index) { lose(connection, failure) }
    if isDraining, connection.pipeline.isEmpty {
      removeResolver(index)
    } else {
      resolvers.timers.schedule(
        index, at: connection.nextDeadline(now: now, attempt: nextUpstreamAttempt))
    }
  }

  /// Goes on until the socket blocks; returns why the connection is lost, if it is.
  private func advance(_ connection: ResolverConnection, at index: Int) -> Failure? {
    switch connection.state {
    case .closed:
      return connection.pipeline.isEmpty ? nil : connect(connection, at: index)
    case .connecting:
      if connection.socket == nil { return connect(connection, at: index) }
      if !connection.readiness.isDisjoint(with: [.error, .hangUp]) {
        return Failure(connecting: connection.socket?.pendingError ?? .connectionReset)
      }
      guard connection.readiness.contains(.writable) else { return nil }
      beginHandshake(connection)
      return shakeHands(connection, at: index)
    case .handshaking:
      return shakeHands(connection, at: index)
    case .open:
      return exchange(connection)
    }
  }

  /// Starts the connection, or waits for room in the upstream's queue.
  private func connect(_ connection: ResolverConnection, at index: Int) -> Failure? {
    guard budget.take(1, share: configuration.servesItself ? .half : .all) else {
      return .resourcesExhausted
    }
    if connection.state == .closed {
      chooseMember(for: connection)
      connection.state = .connecting
      connection.deadline = now + min(configuration.timeouts.connect, configuration.timeouts.dns)
    }
    connection.generation = resolvers.nextGeneration()
    connection.readiness = []
    do {
      guard let socket = try connect(to: member(of: connection.negotiation)) else {
        budget.giveBack(1)
        return nil
      }
      socket.keepAlive()
      try epoll.add(
        socket.rawValue, [.readable, .writable, .edgeTriggered],
        token: Token(.resolver, index: index, generation: connection.generation).rawValue)
      connection.socket = consume socket
    } catch {
      budget.giveBack(1)
      return Failure(connecting: error)
    }
    return nil
  }

  private func beginHandshake(_ connection: ResolverConnection) {
    connection.state = .handshaking
    connection.negotiation.startClient(
      .connect, to: .address(connection.resolver), at: member(of: connection.negotiation))
    // No query waits for longer.
    connection.deadline = now + min(configuration.timeouts.handshake, configuration.timeouts.dns)
  }

  private func shakeHands(_ connection: ResolverConnection, at index: Int) -> Failure? {
    guard let socket = connection.socket?.rawValue else {
      preconditionFailure("a handshake without a connection")
    }
    switch connection.negotiation.advanceAsClient(
      on: socket, &connection.readiness, with: resources.scratch)
    {
    case .waiting:
      return nil
    case .stepping:
      let token = Token(.resolver, index: index, generation: connection.generation)
      return beginStep(of: connection.negotiation, for: token) ? nil : .resourcesExhausted
    case .established(let rest):
      connection.state = .open
      configuration.group?.bringBack(connection.negotiation.member)
      if let channel = connection.negotiation.protection {
        connection.negotiation.beginProtection(with: rest)
        return takeProtected(from: connection, channel) ?? exchange(connection)
      }
      let member = connection.negotiation.member
      connection.negotiation.reset()
      connection.negotiation.member = member
      take(rest, from: connection)
      return exchange(connection)
    case .failed(let failure):
      return Failure(failure, of: connection.negotiation)
    }
  }

  /// Queries out, answers in.
  private func exchange(_ connection: ResolverConnection) -> Failure? {
    guard let socket = connection.socket?.rawValue else {
      preconditionFailure("an open connection without a socket")
    }
    for _ in 0..<Self.receiptsPerTurn {
      if connection.readiness.contains(.writable) {
        switch connection.flush(to: socket) {
        case .bytes: break
        case .wouldBlock: connection.readiness.remove(.writable)
        case .failed: return .resolverClosed
        }
      }
      guard connection.readiness.contains(.readable) else { return nil }
      let channel = connection.negotiation.protection
      switch receive(socket, into: channel?.room ?? resources.scratch) {
      case .bytes(0), .failed:
        return .resolverClosed
      case .bytes(let count):
        if let channel {
          channel.didReceive(count)
          if let failure = takeProtected(from: connection, channel) { return failure }
          continue
        }
        if count < resources.scratch.count, connection.readiness.isDisjoint(with: .moreToRead) {
          connection.readiness.remove(.readable)
        }
        take(UnsafeRawBufferPointer(rebasing: resources.scratch[..<count]), from: connection)
      case .wouldBlock:
        connection.readiness.remove(.readable)
      }
    }
    connection.hasYielded = true
    return nil
  }

  /// The same where answers come in protected messages: in all those that are whole.
  private func takeProtected(
    from connection: ResolverConnection, _ channel: ProtectedChannel
  ) -> Failure? {
    do throws(HandshakeFailure) {
      repeat { channel.takeDelivery { take($0, from: connection) } } while try channel.unwrapNext()
    } catch {
      return Failure(error)
    }
    channel.releaseIdle()
    return nil
  }

  /// Delivers the answers in what the connection brought, which may be in the worker's scratch buffer.
  private func take(_ input: UnsafeRawBufferPointer, from connection: ResolverConnection) {
    let bytes = input.bindMemory(to: UInt8.self).span
    var consumed = 0
    while let completion = connection.pipeline.nextAnswer(from: bytes, &consumed) {
      connection.lastAnswer = now
      counters.add(to: .queriesAnswered)
      if completion.isTruncated { counters.add(to: .queriesTruncated) }
      completion.message.withUnsafeBytes { audit(answerFrom: completion.context.destination, $0) }
      deliver(completion)
    }
  }

  // MARK: Failures

  /// The connection is over. That is a failure unless it has brought answers, or nobody waits for any:
  /// servers end connections after some time or number of queries, and the rest travels on the next.
  private func lose(_ connection: ResolverConnection, _ failure: Failure) {
    let isHarmless = connection.lastAnswer != nil || connection.pipeline.isEmpty
    if connection.state != .open || !isHarmless {
      note(failure, resolver: connection.resolver, connection.negotiation.part)
    }
    // The time-out is so short here that it is no sign of a server that hangs.
    if failure != .handshakeTimeout {
      doubtPipelining(of: connection.negotiation, after: failure)
    }
    var tried = MemberSet()
    if connection.state != .open {
      noteFailure(failure, of: connection)
      tried = connection.negotiation.tried
    }
    close(connection)
    connection.negotiation.tried = tried
    for completion in connection.pipeline.connectionLost() { fail(completion) }
  }

  /// Closes a connection that is nobody's fault.
  func abandon(_ connection: ResolverConnection) {
    close(connection)
    for completion in connection.pipeline.connectionLost() { fail(completion) }
  }

  private func close(_ connection: ResolverConnection) {
    if connection.close() { budget.giveBack(1) }
  }

  private func fail(_ completion: QueryPipeline<Requester>.Completion) {
    counters.add(to: .queriesFailed)
    audit(failureAt: completion.context.destination, isKnown: true)
    deliver(completion)
  }

  /// There is no room for a query: its client should ask somebody else at once.
  private func refuse(_ query: CapturedQuery) {
    note(.queryRefused, resolver: query.resolver)
    audit(failureAt: query.destination)
    guard let message = Query(query.message) else { return }
    message.serverFailure.withUnsafeBytes {
      deliver($0, from: query.destination, to: query.client)
    }
  }

  private func deliver(_ completion: QueryPipeline<Requester>.Completion) {
    resolvers.quota.giveBack(completion.context.client.address)
    completion.message.withUnsafeBytes {
      deliver($0, from: completion.context.destination, to: completion.context.client)
    }
  }

  /// Counts what befell a query or its connection, and tells of it if that has not just been done.
  private func note(
    _ failure: Failure, resolver: SocketAddress, _ part: UpstreamPart = UpstreamPart()
  ) {
    counters.add(failure)
    if let count = problems.note(failure, now: now) {
      report(.failures(failure, count: count, destination: .address(resolver), part))
    }
  }
}
