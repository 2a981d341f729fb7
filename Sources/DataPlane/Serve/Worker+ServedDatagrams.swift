internal import Addressing
internal import LinuxIO
internal import SOCKS

/// The datagrams of the embedded server's associations. Their sockets are watched level-triggered: each
/// event takes one batch, and what is left comes with the next turn, after all others.
extension Worker {
  func handleServed(_ token: Token) {
    guard let association = sessions.find(token)?.pointee.association else { return }
    let turn = ServedTurn(index: token.index, association: association, batch: served)
    switch token.kind {
    case .servedRelay: relayFromClient(turn)
    case .servedExit: relayFromTargets(turn, isIPv4: true)
    case .servedExitV6: relayFromTargets(turn, isIPv4: false)
    case .downstream, .upstream, .contender, .listener, .waker, .associationControl,
      .associationLeg, .associationRelay, .datagramListener, .resolver, .pooled:
      preconditionFailure("not a token of an association")
    }
  }

  // MARK: From the client

  private func relayFromClient(_ turn: ServedTurn) {
    let count = turn.batch.receive(from: turn.association.relay.rawValue)
    guard count > 0 else { return }
    sessions[turn.index].pointee.lastActivity = now
    for slot in 0..<count { relay(turn.batch.received(at: slot), in: turn) }
    finishCollecting(turn)
  }

  /// One datagram of the client, or several that the kernel has joined.
  private func relay(_ received: DatagramReader.Received, in turn: ServedTurn) {
    let bytes = received.bytes
    let step = received.segment > 0 ? received.segment : max(bytes.count, 1)
    guard let source = received.source, turn.association.mayBeClient(source) else {
      counters.add(.sourceNotAllowed, count: max((bytes.count + step - 1) / step, 1))
      return
    }
    var offset = 0
    repeat {
      let end = min(offset + step, bytes.count)
      relay(UnsafeRawBufferPointer(rebasing: bytes[offset..<end]), from: source, in: turn)
      offset = end
    } while offset < bytes.count
  }

  private func relay(
    _ datagram: UnsafeRawBufferPointer, from source: SocketAddress, in turn: ServedTurn
  ) {
    if let (target, headerBytes) = turn.batch.repeated(in: datagram) {
      collect(datagram[headerBytes...], to: target, in: turn)
      return
    }
    let header: DatagramHeader
    do {
      header = try DatagramHeader.decode(from: datagram.bindMemory(to: UInt8.self).span)
    } catch {
      counters.add(DatagramDrop(error))
      return
    }
    guard header.endpoint.port != 0 else {
      counters.add(.malformed)
      return
    }
    guard connect(turn.association, to: source) else { return }
    let payload = datagram[header.bytes...]
    switch header.endpoint {
    case .address(let address):
      guard permits(address, for: turn.index) else {
        counters.add(.forbidden)
        return
      }
      turn.batch.remember(
        UnsafeRawBufferPointer(rebasing: datagram[..<header.bytes]), address.unmapped)
      collect(payload, to: address.unmapped, in: turn)
    case .name(let name, let port):
      relay(
        UnsafeRawBufferPointer(rebasing: payload), to: name, port: port, in: turn)
    }
  }

  /// The first sound datagram shows the client's port.
  private func connect(_ association: ServedAssociation, to source: SocketAddress) -> Bool {
    do {
      try association.connect(to: source)
      return true
    } catch {
      counters.add(.unsent)
      return false
    }
  }

  // MARK: To targets

  private func collect(
    _ payload: Slice<UnsafeRawBufferPointer>, to target: SocketAddress, in turn: ServedTurn
  ) {
    guard beginCollecting(target, in: turn) else { return }
    turn.batch.sender.append(
      UnsafeRawBufferPointer(rebasing: payload), behind: Span(), to: target)
  }

  /// Has the batch collect for the exit that leads to `target`; false, and the datagram is counted, if
  /// there is none.
  private func beginCollecting(
    _ target: SocketAddress, in turn: ServedTurn
  ) -> Bool {
    let isIPv4 = target.address.isIPv4
    if turn.batch.isCollectingIPv4 == isIPv4 { return true }
    finishCollecting(turn)
    guard let exit = exit(isIPv4: isIPv4, in: turn) else { return false }
    turn.batch.sender.begin(on: exit, limit: turn.association.limit(isIPv4: isIPv4))
    turn.batch.isCollectingIPv4 = isIPv4
    return true
  }

  private func finishCollecting(_ turn: ServedTurn) {
    guard let isIPv4 = turn.batch.isCollectingIPv4 else { return }
    turn.batch.isCollectingIPv4 = nil
    let outcome = turn.batch.sender.finish()
    turn.association.setLimit(outcome.limit, isIPv4: isIPv4)
    add(outcome, in: turn, .datagramsUpstream, .datagramBytesUpstream)
  }

  /// The exit of a family, which is opened now if it never was needed before.
  private func exit(isIPv4: Bool, in turn: ServedTurn) -> Int32? {
    if let exit = turn.association.exit(isIPv4: isIPv4) { return exit }
    let isFirst = turn.association.exit(isIPv4: !isIPv4) == nil
    guard isFirst || budget.take(1) else {
      counters.add(.unsent)
      return nil
    }
    let token = Token(
      isIPv4 ? .servedExit : .servedExitV6, index: turn.index,
      generation: sessions[turn.index].pointee.generation)
    do {
      let exit = try turn.association.openExit(
        isIPv4: isIPv4, mark: configuration.mark, epoll: epoll, token: token)
      if !isFirst { turn.association.exitDescriptors += 1 }
      return exit
    } catch {
      if !isFirst { budget.giveBack(1) }
      let isFamily = error == .familyNotSupported || error == .addressNotAvailable
      counters.add(isFamily ? .wrongFamily : .unsent)
      return nil
    }
  }

  // MARK: Names

  private func relay(
    _ payload: UnsafeRawBufferPointer, to name: HostName, port: UInt16, in turn: ServedTurn
  ) {
    guard configuration.access.verdict(on: name, port: port) != .denied else {
      counters.add(.forbidden)
      return
    }
    switch turn.association.names.handle(payload, to: name, port: port) {
    case .send(let address):
      let target = SocketAddress(address, port)
      guard permits(target, of: .name(name, port: port), for: turn.index) else {
        counters.add(.forbidden)
        return
      }
      collect(payload[...], to: target, in: turn)
    case .waits: return
    case .full: counters.add(.queueFull)
    case .lookUp:
      let token = Token(
        .servedRelay, index: turn.index, generation: sessions[turn.index].pointee.generation)
      guard resolver.resolve(name, for: token.rawValue, answerTo: mailbox) else {
        let waiting = turn.association.names.takeWaiting(for: name, address: nil)
        counters.add(.queueFull, count: waiting.count)
        return
      }
    }
  }

  /// A name was looked up: what waited for it leaves, or is dropped if it has no address.
  func sendWaiting(
    to name: HostName, at address: IPAddress?, of index: Int, _ association: ServedAssociation
  ) {
    let waiting = association.names.takeWaiting(for: name, address: address)
    let turn = ServedTurn(index: index, association: association, batch: served)
    guard let address else {
      counters.add(.unsent, count: waiting.count)
      return
    }
    for datagram in waiting {
      let target = SocketAddress(address, datagram.port)
      guard permits(target, of: .name(name, port: datagram.port), for: index) else {
        counters.add(.forbidden)
        continue
      }
      datagram.payload.withUnsafeBytes { payload in
        collect(payload[...], to: target, in: turn)
        finishCollecting(turn)
      }
    }
  }

  // MARK: From targets

  private func relayFromTargets(_ turn: ServedTurn, isIPv4: Bool) {
    guard let exit = turn.association.exit(isIPv4: isIPv4) else { return }
    let count = turn.batch.receive(from: exit)
    guard count > 0 else { return }
    sessions[turn.index].pointee.lastActivity = now
    turn.batch.sender.begin(on: turn.association.relay.rawValue, limit: turn.association.relayLimit)
    var last = SocketAddress(.v4(.any), 0)
    var header = EncodedHeader(last)
    for slot in 0..<count {
      let received = turn.batch.received(at: slot)
      guard let source = received.source else { continue }
      if source != last {
        last = source
        header = EncodedHeader(source)
      }
      turn.batch.sender.append(
        received.bytes, joinedEvery: received.segment,
        behind: header.bytes.span.extracting(first: header.count), to: nil)
    }
    let outcome = turn.batch.sender.finish()
    turn.association.relayLimit = outcome.limit
    add(outcome, in: turn, .datagramsDownstream, .datagramBytesDownstream)
  }

  // MARK: Counting

  private func add(
    _ outcome: DatagramSender.Outcome, in turn: ServedTurn, _ datagrams: Counter, _ bytes: Counter
  ) {
    if outcome.unsentCount > 0 { counters.add(.unsent, count: outcome.unsentCount) }
    if outcome.tooLargeCount > 0 { counters.add(.tooLarge, count: outcome.tooLargeCount) }
    guard !isInner(sessions[turn.index]) else { return }
    counters.add(outcome.sentCount, to: datagrams)
    counters.add(outcome.sentBytes, to: bytes)
  }
}

extension DatagramDrop {
  init(_ problem: DatagramHeader.Problem) {
    switch problem {
    case .fragment: self = .fragmented
    case .truncated, .unknownAddressType, .invalidName: self = .malformed
    }
  }
}
