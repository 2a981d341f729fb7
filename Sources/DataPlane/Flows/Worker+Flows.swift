internal import Addressing
internal import LinuxIO

/// What other threads ask of flows: which there are, and to end some. A worker tells of a few in each turn, so
/// that those who are told of do not wait for it.
extension Worker {
  /// Told of in one turn, with two system calls each …
  private static let flowsPerTurn = 64
  /// … and slots that are looked at.
  private static let slotsPerTurn = 4096

  /// Goes on with the oldest question.
  func walk() {
    guard var walk = walks.first else { return }
    var flows: [FlowSnapshot] = []
    var slots = Self.slotsPerTurn
    while slots > 0, flows.count < Self.flowsPerTurn, walk.session < sessions.indices.count {
      if let flow = snapshot(ofSession: walk.session, walk) { flows.append(flow) }
      walk.session += 1
      slots -= 1
    }
    let associations = datagrams.associations.slots.indices.count
    while slots > 0, flows.count < Self.flowsPerTurn, walk.association < associations {
      if let flow = snapshot(ofAssociation: walk.association, walk) { flows.append(flow) }
      walk.association += 1
      slots -= 1
    }
    walk.inquiry.add(flows)
    if walk.session >= sessions.indices.count, walk.association >= associations {
      walks.removeFirst()
      walk.inquiry.finish()
    } else {
      walks[0] = walk
    }
  }

  /// Ends those that are still there, as if both sides had reset them; the next datagram of a client
  /// whose association it was begins another.
  func end(_ flows: [FlowIdentifier], _ inquiry: FlowInquiry) {
    for flow in flows where end(flow) { inquiry.add(ended: flow) }
    inquiry.finish()
  }

  private func end(_ flow: FlowIdentifier) -> Bool {
    switch flow.transport {
    case .tcp:
      guard sessions.indices.contains(flow.index) else { return false }
      let session = sessions[flow.index]
      guard session.pointee.generation == flow.generation, session.pointee.state != .vacant,
        !isInner(session)
      else { return false }
      fail(flow.index, .endedByRequest)
    case .udp:
      guard datagrams.associations.slots.indices.contains(flow.index) else { return false }
      let association = datagrams.associations.slots[flow.index]
      guard association.pointee.generation == flow.generation,
        association.pointee.state != .vacant
      else { return false }
      endAssociation(flow.index)
    }
    return true
  }

  // MARK: One of them

  /// Nil for a vacant slot, and for what is no flow of anybody's.
  private func snapshot(ofSession index: Int, _ walk: FlowWalk) -> FlowSnapshot? {
    let session = sessions[index]
    guard session.pointee.state != .vacant, !isInner(session) else { return nil }
    let setUp = session.pointee.setUpTime.milliseconds
    let counts = (session.pointee.downstream?.rawValue).flatMap(StreamSocket.byteCounts)
    return FlowSnapshot(
      identifier: FlowIdentifier(
        .tcp, worker: walk.worker, index: index, generation: session.pointee.generation),
      stage: setUp == nil ? .opening : session.pointee.isHalfClosed ? .halfClosed : .open,
      client: session.pointee.downstream?.peerAddress?.unmapped,
      destination: destination(of: index),
      member: member(ofSession: index),
      rule: configuration.policy?.name(of: session.pointee.rule),
      ageMilliseconds: now.milliseconds(since: session.pointee.opened),
      idleMilliseconds: setUp.map { _ in now.milliseconds(since: session.pointee.lastActivity) },
      setUpMilliseconds: setUp, sent: counts?.received ?? 0, received: counts?.sent ?? 0)
  }

  private func member(ofSession index: Int) -> Int? {
    guard case .captured = sessions[index].pointee.origin, !configuration.connectsDirectly else {
      return nil
    }
    switch sessions[index].pointee.state {
    case .relaying, .protected: return Int(sessions[index].pointee.member)
    case .racing: return nil
    default: return negotiation(of: index).member
    }
  }

  private func snapshot(ofAssociation index: Int, _ walk: FlowWalk) -> FlowSnapshot? {
    let association = datagrams.associations.slots[index]
    guard association.pointee.state != .vacant else { return nil }
    let isOpen = association.pointee.state == .open
    return FlowSnapshot(
      identifier: FlowIdentifier(
        .udp, worker: walk.worker, index: index, generation: association.pointee.generation),
      stage: isOpen ? .open : .opening, client: association.pointee.client,
      destination: .address(association.pointee.destination),
      member: Int(association.pointee.member),
      rule: configuration.policy?.name(of: association.pointee.rule),
      ageMilliseconds: now.milliseconds(since: association.pointee.opened),
      idleMilliseconds: isOpen ? now.milliseconds(since: association.pointee.lastActivity) : nil,
      setUpMilliseconds: nil, sent: association.pointee.sent,
      received: association.pointee.received)
  }
}
