internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO

/// Answers what flows a run has, and ends some, on any thread; it may take as long as looking at all
/// processes does.
final class FlowBoard: Sendable {
  /// Told of at once.
  private static let maximumFlows = 50_000
  /// For the workers to answer.
  private static let patience = Timeout.seconds(5)

  /// A worker does not answer.
  struct Silence: Error {}

  private let register: UpstreamRegister
  private let dataPlane: DataPlane
  private let service: NamespaceService

  /// - Parameter service: carries what other processes have asked for.
  init(_ register: UpstreamRegister, _ dataPlane: DataPlane, _ service: NamespaceService) {
    self.register = register
    self.dataPlane = dataPlane
    self.service = service
  }

  func flows(_ filters: [FlowFilter], _ order: FlowOrder) throws(Silence) -> FlowList {
    let deadline = Instant.now() + Self.patience
    guard let snapshots = dataPlane.flows(until: deadline) else { throw Silence() }
    var hosts = HostAddresses()
    // Programs are looked for behind as few as possible.
    let early = filters.filter { !$0.key.concernsProgram }
    var flows = snapshots.map { snapshot in
      (snapshot, status(snapshot, scope: snapshot.client.map { hosts.scope(of: $0.address) }))
    }.filter { _, flow in early.allSatisfy { $0.matches(flow) } }
    findPrograms(&flows)
    let found = (flows.map(\.1) + (try confinedFlows(until: deadline))).filter { flow in
      filters.allSatisfy { $0.matches(flow) }
    }.sorted { order.precedes($0, $1) }
    return FlowList(
      flows: Array(found.prefix(Self.maximumFlows)),
      omitted: max(0, found.count - Self.maximumFlows))
  }

  /// Ends flows that are still there.
  /// - Returns: those that were.
  func end(_ flows: [FlowIdentifier]) throws(Silence) -> [FlowIdentifier] {
    let deadline = Instant.now() + Self.patience
    guard var ended = dataPlane.end(flows, until: deadline) else { throw Silence() }
    for program in service.programs {
      guard let answer = program.inquire({ $0.end(flows, until: deadline) }) else { continue }
      guard let further = answer else { throw Silence() }
      ended += further
    }
    return ended
  }

  /// Those of programs that other processes had carried.
  private func confinedFlows(until deadline: Instant) throws(Silence) -> [FlowStatus] {
    var flows: [FlowStatus] = []
    for program in service.programs {
      guard let answer = program.inquire({ $0.flows(until: deadline) }) else { continue }
      guard let snapshots = answer else { throw Silence() }
      let owner = program.peer.map { peer in
        FlowStatus.Program(
          uid: peer.user, pid: peer.process > 0 ? peer.process : nil, name: nil)
      }
      flows += snapshots.map { snapshot in
        var flow = status(snapshot, scope: .machine)
        flow.program = owner
        return flow
      }
    }
    return flows
  }

  private func status(_ flow: FlowSnapshot, scope: FlowStatus.Scope?) -> FlowStatus {
    FlowStatus(
      id: "\(flow.identifier)", protocol: flow.identifier.transport.rawValue,
      stage: flow.stage.rawValue, scope: scope, client: flow.client.map { "\($0)" }, program: nil,
      destination: flow.destination.map { "\($0)".withoutControls },
      name: flow.name?.withoutControls,
      upstream: flow.member.flatMap { register.roster.chain(in: $0).map { "\($0)" } },
      rule: flow.rule, age: seconds(flow.ageMilliseconds), idle: flow.idleMilliseconds.map(seconds),
      setup: flow.setUpMilliseconds.map(seconds), sent: flow.sent, received: flow.received)
  }

  private func seconds(_ milliseconds: UInt64) -> Double { Double(milliseconds) / 1000 }

  // MARK: Programs

  /// Fills in who has the sockets of this host's own flows; none where the kernel does not tell.
  private func findPrograms(_ flows: inout [(FlowSnapshot, FlowStatus)]) {
    guard flows.contains(where: { $0.1.scope == .machine }), let owners = try? SocketOwners() else {
      return
    }
    var found: [(index: Int, owner: SocketOwners.Owner)] = []
    for (index, (flow, status)) in flows.enumerated() where status.scope == .machine {
      guard let client = flow.client, case .address(let destination)? = flow.destination,
        let owner = owners.owner(
          of: flow.identifier.transport == .tcp ? .stream : .datagrams, at: client,
          to: destination)
      else { continue }
      found.append((index, owner))
    }
    let holders = SocketOwner.holders(ofSockets: Set(found.map(\.owner.inode)))
    for (index, owner) in found {
      let holder = holders[owner.inode]
      flows[index].1.program = FlowStatus.Program(
        uid: owner.user, pid: holder?.processID, name: holder?.name.withoutControls)
    }
  }
}

/// Which addresses are this host's own, as far as that was asked.
private struct HostAddresses {
  private var known: [IPAddress: Bool] = [:]

  mutating func scope(of address: IPAddress) -> FlowStatus.Scope {
    if let isOwn = known[address] { return isOwn ? .machine : .gateway }
    let isOwn = SocketOwner.isOfThisHost(address)
    known[address] = isOwn
    return isOwn ? .machine : .gateway
  }
}
