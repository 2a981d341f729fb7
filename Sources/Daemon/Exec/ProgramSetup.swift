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

  /// What the engine carries.
  let traffic: ConfinedTraffic
  private let configuration: ProgramConfiguration
  private let upstreams: UpstreamSelection
  private let policy: ConfinementPolicy
  let names: ConfinedNames
  /// What does not depend on the upstream.
  private let plane: DataPlaneConfiguration

  /// - Parameters:
  ///   - upstream: where everything goes.
  ///   - carriesIPv6: whether it takes IPv6 targets, as far as is known.
  init(_ configuration: ProgramConfiguration, _ upstreams: UpstreamSelection, carriesIPv6: Bool) {
    self.configuration = configuration
    self.upstreams = upstreams
    let engine = configuration.engine
    names = ConfinedNames(engine, upstreams.members[0], .current())
    let hasIPv6 = System.hasIPv6
    var policy = ConfinementPolicy(
      addresses: hasIPv6 ? [Plan.addressV4, Plan.addressV6] : [Plan.addressV4])
    policy.rejectsDatagrams = engine.uncaptured.udp == .reject
    switch engine.uncaptured.ipv6 {
    case .reject: policy.rejectsIPv6 = true
    case nil: policy.rejectsIPv6 = !carriesIPv6
    case .proxy, .bypass: break
    }
    policy.rejectsQUIC = engine.quic == .reject
    policy.dns = engine.dns == .off ? .none : names.resolver == nil ? .selected : .everywhere
    self.policy = policy
    traffic = ConfinedTraffic(
      hasIPv6: hasIPv6, includesDatagrams: policy.capturesDatagrams, dns: engine.dns,
      resolver: names.resolver)
    plane = Self.makePlane(configuration, traffic)
  }

  private static func makePlane(
    _ configuration: ProgramConfiguration, _ traffic: ConfinedTraffic
  ) -> DataPlaneConfiguration {
    let workers =
      configuration.daemon == nil
      ? configuration.engine.workers ?? System.processors.count : NamespaceService.workers
    var plane = traffic.plane(configuration.engine, workers: workers)
    let loopbacks = traffic.loopbacks
    for port in configuration.hostLoopback {
      let targets = loopbacks.map { SocketAddress($0, port) }
      plane.listeners += targets.map {
        ListenerConfiguration(.forward(to: targets, .outward), on: $0)
      }
    }
    for publication in configuration.publications {
      let targets = loopbacks.map { SocketAddress($0, publication.inside) }
      plane.listeners += loopbacks.map {
        ListenerConfiguration(
          .forward(to: targets, .inward), on: SocketAddress($0, publication.port))
      }
    }
    return plane
  }

  /// Begins to make the namespaces.
  func begin() throws(CommandFailure) -> ConfinedProgram {
    var plan = Plan(
      System.mayMakeNamespaces ? .privileged : .user,
      addresses: policy.addresses, command: configuration.command)
    plan.coveredDirectories = Self.coveredDirectories
    if let control = configuration.daemon { plan.coveredFiles = ["\(control)"] }
    plan.resolverFile = names.file
    plan.environment = configuration.environment
    plan.environment["SLUICE"] = "\(upstreams)"
    plan.ignoresChildren = ChildProcess.noticeChildren()
    plan.preservedDescriptors = configuration.preservedDescriptors
    plan.suppliesSockets = !configuration.publications.isEmpty
    let marks = ConfinementPolicy.marks
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
    _ group: UpstreamGroup?, _ sockets: borrowing ConfinedProgram.Sockets, _ audit: Audit?,
    descriptors: Int, report: @escaping @Sendable (Event) -> Void
  ) throws(CommandFailure) -> DataPlane {
    var plane = plane
    plane.descriptorLimit = descriptors
    plane.audit = audit
    plane.owners = .fixed(.ofThisProcess)
    let handed = HandedSockets()
    for (socket, descriptor) in zip(plane.ingressSockets, sockets.opened) {
      handed.add(Descriptor(owning: descriptor), as: socket)
    }
    plane.handedSockets = handed
    if let supply = sockets.supply { plane.insideSocket = { supply.socket(isIPv4: $0) } }
    return try plane.opened(group, report)
  }
}

extension ConfinementPolicy {
  fileprivate var refusingDatagrams: ConfinementPolicy {
    var policy = self
    policy.rejectsDatagrams = true
    return policy
  }
}
