internal import LinuxIO
internal import SOCKS

/// Connections that are made before a flow needs them. One that turns out to be dead costs the flow
/// a new connection: nothing has been read of the application until the reply is there.
extension Worker {
  // MARK: Flows

  /// Begins the handshake of a captured session on a connection that is ready; false if there is none.
  func beginWithPooled(_ index: Int) -> Bool {
    let negotiation = negotiation(of: index)
    guard let pool, negotiation.deadAge == nil, pool.schedules[negotiation.member] != nil else {
      return false
    }
    let ready = pool.count(of: negotiation.member, ready: true)
    pool.schedules[negotiation.member]?.noteFlow(ready: ready, now: now)
    pool.nextTurn = now
    guard let number = pool.youngest(of: negotiation.member) else { return false }
    let connection = pool.slots[number]
    let isCurrent = connection.pointee.place == member(of: negotiation).place
    let since = connection.pointee.since
    guard let socket = connection.pointee.socket.take() else {
      preconditionFailure("a ready connection without a socket")
    }
    remove(number, from: pool)
    let session = sessions[index]
    let token = Token(.upstream, index: index, generation: session.pointee.generation)
    let interest: Interest = [.readable, .writable, .edgeTriggered]
    // Tells anew what there is to read, even if an event of that was under way.
    guard isCurrent,
      (try? epoll.modify(socket.rawValue, interest, token: token.rawValue)) != nil
    else { return false }
    session.pointee.upstream = consume socket
    session.pointee.upstreamReadiness = [.writable]
    negotiation.pooledSince = since
    beginHandshake(index, isAdmitted: true)
    return true
  }

  /// A flow has got through.
  func notePooled(_ negotiation: Negotiation) {
    guard let pool else { return }
    if negotiation.pooledSince != nil {
      counters.add(to: .pooledUsed)
      pool.schedules[negotiation.member]?.noteSuccess()
    } else if let age = negotiation.deadAge {
      pool.schedules[negotiation.member]?.noteEnd(age: age, now: now)
    }
  }

  /// Has a session whose pooled connection is dead begin with one of its own; false if it was alive, or
  /// there is none. That a server hangs up in place of a reply may also be its answer: what it does on the
  /// new connection tells.
  func beginWithoutPooled(_ index: Int, after failure: Failure) -> Bool {
    let negotiation = negotiation(of: index)
    guard let since = negotiation.pooledSince, negotiation.part.hop == 0 else { return false }
    switch failure {
    case .closedInReply, .protocolViolation: break
    default: return false
    }
    counters.add(to: .pooledDead)
    negotiation.deadAge = Timeout(milliseconds: UInt32(now.milliseconds(since: since)))
    beginAnew(index)
    return true
  }

  // MARK: Keeping

  /// Begins connections that are missing, and closes what is too old or too many.
  func tendPool() {
    guard let pool, let turn = pool.nextTurn, turn <= now else { return }
    for index in pool.members.map(Int.init) { closeIfOverdue(index, in: pool) }
    let alive = configuration.group?.alive ?? MemberSet()
    for member in pool.schedules.indices {
      guard var schedule = pool.schedules[member] else { continue }
      schedule.review(now: now)
      pool.schedules[member] = schedule
      let isWanted = alive.contains(member) && pausedUntil == nil
      closeOldest(of: member, leaving: isWanted ? schedule.wanted : 0, in: pool)
      guard isWanted else { continue }
      let count = pool.count(of: member, ready: false)
      for _ in 0..<schedule.missing(beside: count, now: now) {
        guard beginPooled(with: member, in: pool) else { break }
      }
    }
    pool.nextTurn = nextTurn(of: pool)
  }

  private func nextTurn(of pool: ConnectionPool) -> Instant? {
    var next: Instant?
    func note(_ instant: Instant?) {
      guard let instant else { return }
      next = next.map { min($0, instant) } ?? instant
    }
    for schedule in pool.schedules { note(schedule?.nextTurn(now: now)) }
    for index in pool.members { note(deadline(of: Int(index), in: pool)) }
    return next
  }

  /// When a connection has to be ready, or is too old.
  private func deadline(of index: Int, in pool: ConnectionPool) -> Instant {
    let connection = pool.slots[index]
    switch connection.pointee.phase {
    case .connecting, .admitting: return connection.pointee.since + configuration.timeouts.connect
    case .ready:
      let age = pool.schedules[Int(connection.pointee.member)]?.age ?? PoolSchedule.longestAge
      return connection.pointee.since + age
    }
  }

  private func closeIfOverdue(_ index: Int, in pool: ConnectionPool) {
    guard deadline(of: index, in: pool) <= now else { return }
    let connection = pool.slots[index]
    let member = Int(connection.pointee.member)
    if connection.pointee.phase == .ready {
      pool.schedules[member]?.noteAged()
    } else {
      pool.schedules[member]?.noteFailure(now: now)
    }
    remove(index, from: pool)
  }

  private func closeOldest(of member: Int, leaving most: Int, in pool: ConnectionPool) {
    var surplus = pool.count(of: member, ready: false) - most
    for index in pool.members.map(Int.init)
    where surplus > 0 && pool.slots[index].pointee.member == UInt8(member) {
      remove(index, from: pool)
      surplus -= 1
    }
  }

  /// False if it cannot be begun now.
  private func beginPooled(with member: Int, in pool: ConnectionPool) -> Bool {
    guard let upstream = configuration.group?.members[member],
      case .socks5(let credentials) = upstream.dialect, budget.take(1, share: .half)
    else { return false }
    let index = pool.slots.take()
    let connection = pool.slots[index]
    pool.members.append(Int32(index))
    connection.pointee.member = UInt8(member)
    connection.pointee.since = now
    connection.pointee.place = upstream.place
    connection.pointee.admission = Admission(credentials: credentials)
    do throws(Errno) {
      guard let socket = try connect(to: upstream) else { throw .wouldBlock }
      try epoll.add(
        socket.rawValue, [.readable, .writable, .edgeTriggered],
        token: Token(.pooled, index: index, generation: connection.pointee.generation).rawValue)
      connection.pointee.socket = consume socket
      return true
    } catch {
      failPooled(index, in: pool)
      return false
    }
  }

  /// Closes one, if it still has its socket.
  private func remove(_ index: Int, from pool: ConnectionPool) {
    pool.members.removeAll { $0 == Int32(index) }
    pool.slots.giveBack(index)
    budget.giveBack(1)
  }

  /// One could not be made ready.
  private func failPooled(_ index: Int, in pool: ConnectionPool) {
    pool.schedules[Int(pool.slots[index].pointee.member)]?.noteFailure(now: now)
    remove(index, from: pool)
    pool.nextTurn = now
  }

  /// Closes all, for what needs their descriptors more.
  func emptyPool() {
    guard let pool else { return }
    for index in pool.members.map(Int.init) { remove(index, from: pool) }
  }

  /// Closes those that no flow would take any more.
  func adoptInPool(_ change: GroupChange) {
    guard let pool else { return }
    pool.adopt(change.group, fresh: change.fresh)
    for index in pool.members.map(Int.init)
    where pool.schedules[Int(pool.slots[index].pointee.member)] == nil {
      remove(index, from: pool)
    }
    pool.nextTurn = now
  }

  func closePool() {
    emptyPool()
    pool = nil
  }

  // MARK: Events

  func handlePooled(_ token: Token, _ readiness: Readiness) {
    guard let pool, let connection = pool.slots.find(token) else { return }
    let index = token.index
    let hasFailed = !readiness.isDisjoint(with: [.error, .hangUp])
    switch connection.pointee.phase {
    case .connecting:
      if hasFailed {
        failPooled(index, in: pool)
      } else if readiness.contains(.writable) {
        connection.pointee.phase = .admitting
        guard
          advance(
            index, in: pool,
            { admission, output in
              admission.start(into: &output)
              return .receive
            })
        else { return }
        if readiness.contains(.readable) { receivePooled(index, in: pool) }
      }
    case .admitting:
      if readiness.contains(.readable) || hasFailed { receivePooled(index, in: pool) }
    case .ready:
      // A server that has been let alone has nothing to say but the end.
      guard readiness.contains(.readable) || hasFailed else { return }
      let age = Timeout(
        milliseconds: UInt32(now.milliseconds(since: connection.pointee.since)))
      pool.schedules[Int(connection.pointee.member)]?.noteEnd(age: age, now: now)
      remove(index, from: pool)
      pool.nextTurn = now
    }
  }

  private func receivePooled(_ index: Int, in pool: ConnectionPool) {
    while let socket = pool.slots[index].pointee.socket?.rawValue {
      switch receive(socket, into: resources.scratch) {
      case .wouldBlock: return
      case .bytes(0), .failed:
        failPooled(index, in: pool)
        return
      case .bytes(let count):
        let input = UnsafeRawBufferPointer(rebasing: resources.scratch[..<count])
        guard
          advance(
            index, in: pool,
            { admission, output in
              admission.receive(input.bindMemory(to: UInt8.self).span, into: &output)
            })
        else { return }
      }
    }
  }

  /// Runs a step of the admission and sends what it writes; false if the connection is gone.
  private func advance(
    _ index: Int, in pool: ConnectionPool,
    _ step: (inout Admission, inout OutputSpan<UInt8>) -> Admission.Action
  ) -> Bool {
    let connection = pool.slots[index]
    guard let socket = connection.pointee.socket?.rawValue,
      var admission = connection.pointee.admission
    else { preconditionFailure("an admission without a connection") }
    // SAFETY: nothing is initialised before the step; the span does not outlive it.
    var span = OutputSpan(buffer: pool.output, initializedCount: 0)
    let action = step(&admission, &span)
    let count = span.finalize(for: pool.output)
    connection.pointee.admission = admission
    if case .failed = action {
      failPooled(index, in: pool)
      return false
    }
    if count > 0 {
      let bytes = UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: pool.output[..<count]))
      // A new connection has room for what little there is to say.
      guard case .bytes(count) = send(socket, bytes) else {
        failPooled(index, in: pool)
        return false
      }
    }
    if case .admitted = action, connection.pointee.phase != .ready {
      connection.pointee.phase = .ready
      connection.pointee.since = now
      pool.nextTurn =
        pool.nextTurn.map { min($0, deadline(of: index, in: pool)) }
        ?? deadline(of: index, in: pool)
    }
    return true
  }
}
