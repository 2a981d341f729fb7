internal import Addressing
package import LinuxIO

/// What can be asked of flows, on any thread; it blocks until all workers have answered.
extension DataPlane {
  /// Those that there are, in no order; nil if a worker has not answered by then.
  package func flows(until deadline: Instant) -> [FlowSnapshot]? {
    guard let inquiry = ask(until: deadline, { .list($1, worker: $0) }) else {
      return nil
    }
    var flows = inquiry.flows
    guard let names = configuration.names else { return flows }
    for index in flows.indices {
      guard case .address(let address) = flows[index].destination else { continue }
      flows[index].name = names[address.address]
    }
    return flows
  }

  /// Ends flows of its own that are still there.
  /// - Returns: those that were; nil if a worker has not answered by then.
  package func end(_ flows: [FlowIdentifier], until deadline: Instant) -> [FlowIdentifier]? {
    ask(until: deadline) { worker, inquiry in
      .end(flows.filter { $0.worker == worker }, inquiry)
    }?.ended
  }

  /// The members of the group that anything goes through, or may still go through, by what has been adopted
  /// before; nil if a worker has not answered by then.
  package func membersInUse(until deadline: Instant) -> MemberSet? {
    ask(until: deadline) { .tellMembers($1) }?.members
  }

  private func ask(
    until deadline: Instant, _ command: (Int, FlowInquiry) -> Command
  ) -> FlowInquiry? {
    let inquiry = FlowInquiry()
    for (index, worker) in workers.enumerated() {
      worker.mailbox.post(command(configuration.firstWorker + index, inquiry))
    }
    return inquiry.wait(for: workers.count, until: deadline) ? inquiry : nil
  }
}
