internal import Addressing
internal import LinuxIO

/// What flows leave in the audit, where there is one.
extension Worker {
  // MARK: Sessions

  /// Bytes of a relay, kept until its session ends.
  func auditBytes(_ index: Int, sent: Int, received: Int) {
    while sessionTraffic.count <= index { sessionTraffic.append(Audit.Traffic()) }
    sessionTraffic[index].sent &+= UInt64(sent)
    sessionTraffic[index].received &+= UInt64(received)
  }

  /// Records a session that is about to end. What the captured side is asked by others, and the embedded
  /// server's half of what it has asked for itself, is none of its destinations.
  func auditEnd(of index: Int, in audit: Audit) {
    let session = sessions[index]
    var traffic = Audit.Traffic()
    if index < sessionTraffic.count { swap(&traffic, &sessionTraffic[index]) }
    traffic.flows = 1
    // Before the relay there was no connection to the destination.
    traffic.failed = session.pointee.state == .relaying ? 0 : 1
    switch session.pointee.origin {
    case .captured(let destination): audit.record(traffic, .init(.tcp, destination.address))
    case .forwarded(to: let target, .outward): audit.record(traffic, .init(.tcp, target))
    case .served, .forwarded(to: _, .inward), .exposed: return
    }
  }

  // MARK: Datagrams

  /// Notes what went between a client and one destination, until its association ends.
  func auditDatagrams(
    _ association: UnsafeMutablePointer<Association>, with peer: SocketAddress,
    sent: Int = 0, received: Int = 0, in audit: Audit
  ) {
    if association.pointee.traffic.isFull(for: peer) { auditEnd(of: association, in: audit) }
    association.pointee.traffic.add(with: peer, sent: sent, received: received)
  }

  /// Records what an association has carried.
  func auditEnd(of association: UnsafeMutablePointer<Association>, in audit: Audit) {
    association.pointee.traffic.removeAll { audit.record($1, .init(.udp, $0)) }
  }

  // MARK: Queries that go on by TCP

  func audit(queryTo destination: SocketAddress, sent: Int) {
    configuration.audit?.record(
      Audit.Traffic(flows: 1, sent: UInt64(sent)), .init(.udp, destination))
  }

  func audit(answerFrom destination: SocketAddress, _ message: UnsafeRawBufferPointer) {
    configuration.names?.learn(from: message)
    guard let audit = configuration.audit else { return }
    audit.record(Audit.Traffic(received: UInt64(message.count)), .init(.udp, destination))
    audit.learn(from: message)
  }

  /// Datagrams that cannot be sent on, or a query that is not answered, which has been recorded as a flow
  /// if `isKnown`.
  func audit(failureAt destination: SocketAddress, isKnown: Bool = false) {
    configuration.audit?.record(
      Audit.Traffic(flows: isKnown ? 0 : 1, failed: 1), .init(.udp, destination))
  }
}
