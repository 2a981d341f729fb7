/// Something that there is no more of than a number: its use at about one moment.
package struct Bound: Hashable, Sendable {
  /// For people.
  package let name: String
  package let used: Int
  package let limit: Int

  package init(_ name: String, used: Int, limit: Int) {
    self.name = name
    self.used = used
    self.limit = limit
  }
}

extension DataPlane {
  /// What there is a bounded number of here, of all workers together; the first are descriptors, which pause
  /// accepting when they are used up. What there is no use for is left out.
  /// - Parameter snapshot: of these workers.
  package func bounds(_ snapshot: Snapshot) -> [Bound] {
    var bounds = [budget.bound]
    func add(_ name: String, _ use: Use, _ limitPerWorker: Int) {
      bounds.append(
        Bound(name, used: snapshot[use], limit: limitPerWorker * configuration.workers))
    }
    add("pipes", .pipes, PipePool.maximumPipes)
    // Each direction of a session has one at most, and a session has two descriptors.
    bounds.append(Bound("buffers", used: snapshot[.buffers], limit: budget.bound.limit))
    if configuration.pooledConnections > 0 {
      add("pooled connections", .pooledConnections, mostPooledOfWorker)
    }
    if configuration.datagrams != nil {
      bounds += quota.bounds
      add("bytes of waiting datagrams", .waitingBytes, DatagramResources.maximumWaitingBytes)
      add("known resolvers", .knownResolvers, Worker.maximumResolvers)
      // One worker carries the queries of all.
      bounds.append(
        Bound(
          "resolver connections", used: snapshot[.resolverConnections],
          limit: ResolverTable.maximumResolvers))
      if let carrier = workers.first?.carrier { bounds.append(carrier.bound) }
      if let names = configuration.names { bounds.append(names.bound) }
    }
    if configuration.listeners.contains(where: { $0.ingress.isServing }) {
      bounds.append(resolver.bound)
      add("listening clients", .listeners, Worker.maximumListening)
    }
    bounds += group?.bounds ?? []
    return bounds
  }

  private var mostPooledOfWorker: Int {
    guard let group else { return 0 }
    let members = group.order.count(where: { group.members[$0].canWait })
    return ConnectionPool.mostOfMember(configuration) * members
  }
}

extension UpstreamGroup {
  fileprivate var bounds: [Bound] {
    let steppers = members.compactMap(\.stepper)
    guard !steppers.isEmpty else { return [] }
    return [
      Bound(
        "waiting GSSAPI steps", used: steppers.reduce(0) { $0 + $1.waitingCount },
        limit: SecurityStepper.maximumWaiting * steppers.count)
    ]
  }
}

extension Worker {
  /// Tells those who ask how much is in use; relaxed stores, which are plain moves.
  func tellUse() {
    counters.add(to: .turns)
    counters.set(.pipes, to: resources.pipes.count)
    counters.set(.buffers, to: resources.buffers.lentCount)
    counters.set(.waitingBytes, to: datagrams.waitingBytes)
    counters.set(.listeners, to: listeningCount)
    counters.set(.pooledConnections, to: pool?.members.count ?? 0)
    counters.set(.resolverConnections, to: resolvers.count)
    counters.set(.knownResolvers, to: datagrams.resolvers.count)
  }
}
