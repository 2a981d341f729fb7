package import Addressing
package import LinuxIO
internal import SOCKS
internal import Synchronization

/// The workers, and the one way to them from outside: start, drain, stop, and what they count.
package final class DataPlane: Sendable {
  let configuration: DataPlaneConfiguration
  let workers: [Worker]
  let budget: DescriptorBudget
  let quota: AssociationQuota
  let resolver = Resolver()
  private let report: @Sendable (Event) -> Void
  private let threads = Mutex<[Thread]>([])
  private let direction: Mutex<Direction>

  /// Where new flows go.
  private struct Direction {
    var group: UpstreamGroup?
    /// Whether this data plane looks after the group, which takes a monitor where there is a choice.
    var isWatched = false
    var monitor: (GroupMonitor, Thread)?

    func stopMonitor() {
      guard let (monitor, thread) = monitor else { return }
      monitor.stop()
      thread.join()
    }
  }

  /// A listener could not be opened.
  package struct ListenError: Error, Sendable {
    package let address: SocketAddress
    package let errno: Errno
  }

  /// Opens every listener; nothing is accepted before `start`.
  /// - Parameter report: is called on worker threads, and must not block.
  package init(
    _ configuration: DataPlaneConfiguration, report: @escaping @Sendable (Event) -> Void
  ) throws(ListenError) {
    self.configuration = configuration
    self.report = report
    direction = Mutex(Direction(group: configuration.group))
    budget = DescriptorBudget(limit: configuration.sessionDescriptors)
    quota = AssociationQuota(
      maximum: configuration.associations,
      maximumPerClient: configuration.datagrams?.maximumAssociationsPerClient ?? 0)
    var workers: [Worker] = []
    for _ in 0..<configuration.workers {
      do {
        workers.append(
          try Worker(
            configuration, budget: budget, quota: quota, resolver: resolver,
            carrier: workers.first?.carrier, report: report))
      } catch {
        throw ListenError(address: SocketAddress(.v4(.any), 0), errno: error)
      }
    }
    for listener in configuration.listeners {
      for worker in workers {
        do {
          try worker.open(listener)
        } catch {
          throw ListenError(address: listener.address, errno: error)
        }
      }
    }
    for (index, listener) in configuration.furtherListeners.enumerated() {
      do {
        try workers[index % workers.count].open(listener)
      } catch {
        throw ListenError(address: listener.address, errno: error)
      }
    }
    for address in configuration.datagrams?.listeners ?? [] {
      // The first of them, so that the one that carries DNS queries can deliver the answers.
      for worker in workers.prefix(configuration.datagramWorkers) {
        do {
          try worker.openDatagrams(on: address)
        } catch {
          throw ListenError(address: address, errno: error)
        }
      }
    }
    self.workers = workers
  }

  /// Starts one thread per worker, and the resolver's if the embedded server is among them.
  ///
  /// With as many workers as processors each stays on one: a worker that wanders sends a flow's
  /// packets from two processors, which reorders them, and the receiver takes that for loss.
  package func start() throws(Errno) {
    if configuration.listeners.contains(where: { $0.ingress.isServing }) {
      try resolver.start()
    }
    let processors = System.processors
    for (index, worker) in workers.enumerated() {
      let thread = try Thread(
        name: "sluice-worker-\(index)",
        processor: workers.count == processors.count ? processors[index] : nil
      ) { worker.run() }
      threads.withLock { $0.append(thread) }
    }
  }

  /// From now on things may take as long as this, and ends are passed on like this. What waits already
  /// keeps its deadline.
  package func adopt(_ timeouts: Timeouts, _ halfClose: HalfClose) {
    for worker in workers { worker.mailbox.post(.adopt(timeouts, halfClose)) }
  }

  /// From now on flows are held against these rules when they begin; nil: against none.
  package func adopt(_ policy: Policy?) {
    for worker in workers { worker.mailbox.post(.rule(policy)) }
  }

  /// From now on new flows go through these upstreams, by these rules; what is open goes on as it is.
  /// - Throws: if their monitor cannot be started, and nothing has changed.
  package func adopt(_ change: GroupChange) throws(Errno) {
    try direction.withLock { (direction) throws(Errno) in
      var monitor: (GroupMonitor, Thread)?
      if direction.isWatched { monitor = try startMonitor(of: change.group) }
      direction.stopMonitor()
      direction.monitor = monitor
      direction.group = change.group
      for worker in workers { worker.mailbox.post(.regroup(change)) }
    }
  }

  /// Closes all listeners but the embedded server's, and those as well where others keep them open; sessions
  /// go on. `Event.drained` tells when a worker has done so, and when it has none left.
  /// - Parameter acceptsWaiting: whether what has connected before is accepted first; else it is left to
  ///   those who keep the listeners open.
  package func drain(acceptsWaiting: Bool) {
    for worker in workers { worker.mailbox.post(.drain(acceptsWaiting: acceptsWaiting)) }
  }

  /// Whether connections may still be accepted after `drain`.
  package var isListening: Bool {
    workers.contains { !$0.hasClosedListeners.load(ordering: .acquiring) }
  }

  /// Resets what is left, and returns when all workers have ended; nothing the second time.
  package func stop() {
    let running = threads.withLock { threads in
      defer { threads = [] }
      return threads
    }
    guard !running.isEmpty else { return }
    direction.withLock { $0.stopMonitor() }
    for worker in workers { worker.mailbox.post(.stop) }
    resolver.stop()
    for thread in running { thread.join() }
  }

  package var capturesDatagrams: Bool { configuration.datagrams != nil }

  package var workerCount: Int { workers.count }

  /// Where captured flows go; nil if there are none to capture.
  package var group: UpstreamGroup? { direction.withLock { $0.group } }

  package func snapshot() -> Snapshot {
    var snapshot = Snapshot()
    let group = group
    for worker in workers {
      worker.counters.read(into: &snapshot)
      worker.phases.read(into: &snapshot, members: group?.members.count ?? 0)
    }
    if let datagrams = configuration.datagrams, let group {
      snapshot.datagrams = DatagramWays(ability: group.datagramAbility, dns: datagrams.dns)
    }
    return snapshot
  }

  /// Looks after the members of the group from now on, and of those that take its place; not to be called
  /// where somebody else's data plane does.
  package func watchGroup() throws(Errno) {
    try direction.withLock { (direction) throws(Errno) in
      direction.isWatched = true
      direction.monitor = try direction.group.flatMap { (group) throws(Errno) in
        try startMonitor(of: group)
      }
    }
  }

  /// Nil where there is but one.
  private func startMonitor(
    of group: UpstreamGroup
  ) throws(Errno) -> (GroupMonitor, Thread)? {
    let monitor = GroupMonitor(
      group, configuration.healthChecks, mark: configuration.mark,
      timeout: configuration.timeouts.connect, report: report)
    guard let monitor else { return nil }
    return (monitor, try monitor.start())
  }
}
