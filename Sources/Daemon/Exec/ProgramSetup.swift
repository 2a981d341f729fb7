internal import Addressing
internal import Configuration
internal import Confinement
internal import DataPlane
internal import LinuxIO
internal import NFTables
internal import RedirectPolicy

/// From the settings of a confined program to its namespaces, and to the data plane outside.
struct ProgramSetup {
  /// Of services that look up names, or would change what this host captures, for whoever can reach
  /// their sockets.
  private static let coveredDirectories = [
    "/run/systemd/resolve", "/run/nscd", "/var/run/nscd", "/run/avahi-daemon", "/run/sluice",
  ]

  private let configuration: ProgramConfiguration
  private let policy: RedirectPolicy
  private let families: [IPFamily]
  let names: ConfinedNames
  /// What does not depend on the upstream.
  private let plane: DataPlaneConfiguration

  init(_ configuration: ProgramConfiguration) {
    self.configuration = configuration
    let engine = configuration.engine
    families = System.hasIPv6 ? [.v4, .v6] : [.v4]
    names = ConfinedNames(engine, .current())
    var policy = RedirectPolicy.confining
    policy.uncaptured.udp = engine.uncaptured.udp == .reject ? .reject : nil
    policy.uncaptured.ipv6 = engine.uncaptured.ipv6 == .reject ? .reject : nil
    policy.rejectsQUIC = engine.quic == .reject
    policy.dns = engine.dns == .off ? .none : names.resolver == nil ? .selected : .everywhere
    self.policy = policy
    plane = Self.makePlane(configuration, policy, families, names)
  }

  private static func makePlane(
    _ configuration: ProgramConfiguration, _ policy: RedirectPolicy, _ families: [IPFamily],
    _ names: ConfinedNames
  ) -> DataPlaneConfiguration {
    let engine = configuration.engine
    let loopbacks = families.map(\.loopback)
    let transparent = loopbacks.map { SocketAddress($0, policy.ports.tproxy) }
    var listeners = transparent.map { ListenerConfiguration(.tproxy, on: $0) }
    for port in configuration.hostLoopback {
      let targets = loopbacks.map { SocketAddress($0, port) }
      listeners += targets.map { ListenerConfiguration(.forward(to: targets, .outward), on: $0) }
    }
    for publication in configuration.publications {
      let targets = loopbacks.map { SocketAddress($0, publication.inside) }
      listeners += loopbacks.map {
        ListenerConfiguration(
          .forward(to: targets, .inward), on: SocketAddress($0, publication.port))
      }
    }
    var plane = DataPlaneConfiguration(
      workers: engine.workers ?? System.processors.count, listeners: listeners,
      descriptorLimit: 0)
    plane.detectsLoops = false
    plane.timeouts = Timeouts(engine)
    if policy.capturesDatagrams {
      plane.datagrams = DatagramConfiguration(engine, listeners: transparent)
      plane.datagrams?.replyMark = policy.numbers.marks.reply.value
      plane.datagrams?.resolver = names.resolver
    }
    return plane
  }

  /// Begins to make the namespaces.
  func begin() throws(CommandFailure) -> ConfinedProgram {
    var plan = Plan(
      System.mayMakeNamespaces ? .privileged : .user,
      addresses: families.map { $0 == .v4 ? Plan.addressV4 : Plan.addressV6 },
      command: configuration.command)
    plan.coveredDirectories = Self.coveredDirectories
    plan.resolverFile = names.file
    plan.environment = configuration.environment
    plan.environment["SLUICE"] = "\(configuration.engine.upstream)"
    plan.ignoresChildren = ChildProcess.noticeChildren()
    plan.preservedDescriptors = configuration.preservedDescriptors
    plan.suppliesSockets = !configuration.publications.isEmpty
    let marks = policy.numbers.marks
    let sockets = plane.ingressSockets
    return try startedUp { () throws(Errno) in
      try ConfinedProgram.begin(
        plan, policy: { $0 ? policy.refusingDatagrams : policy }, sockets: sockets.count
      ) { (index) throws(Errno) in
        try sockets[index].open(mark: marks.own.value, replyMark: marks.reply.value)
      }
    }
  }

  /// - Parameter upstream: nil for the embedded server, which is made with it.
  func dataPlane(
    _ upstream: Upstream?, _ sockets: borrowing ConfinedProgram.Sockets, _ audit: Audit?,
    descriptors: Int, report: @escaping @Sendable (Event) -> Void
  ) throws(CommandFailure) -> DataPlane {
    var plane = plane
    plane.descriptorLimit = descriptors
    plane.audit = audit
    let handed = HandedSockets()
    for (socket, descriptor) in zip(plane.ingressSockets, sockets.opened) {
      handed.add(Descriptor(owning: descriptor), as: socket)
    }
    plane.handedSockets = handed
    if let supply = sockets.supply { plane.insideSocket = { supply.socket(isIPv4: $0) } }
    return try plane.opened(upstream, report)
  }
}

extension IPFamily {
  fileprivate var loopback: IPAddress { self == .v4 ? .v4(.loopback) : .v6(.loopback) }
}

extension RedirectPolicy {
  fileprivate var refusingDatagrams: RedirectPolicy {
    var policy = self
    policy.refuseDatagrams()
    return policy
  }
}
