internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import NFTables
internal import RedirectPolicy
internal import SOCKS

// From settings to the data plane of a run.

extension RunCommand {
  func makeDataPlane(
    _ scope: Scope, _ group: UpstreamGroup?, _ store: DescriptorStore, descriptors: Int,
    report: @escaping @Sendable (Event) -> Void
  ) throws(CommandFailure) -> DataPlane {
    var listeners: [ListenerConfiguration] = []
    for listener in scope.listeners {
      let isHeld = listener.ingressSocket.map { store.holds($0) } ?? false
      if try isHeld ? true : isAvailable(listener.address, StreamSocket.checkFree) {
        listeners.append(listener)
      }
    }
    var plane = DataPlaneConfiguration(
      workers: configuration.workers ?? System.processors.count, listeners: [],
      descriptorLimit: descriptors)
    plane.mark = scope.policy.numbers.marks.own.value
    plane.owners = configuration.machine == nil ? .unknown : .bySocket
    plane.timeouts = Timeouts(configuration)
    plane.healthChecks = HealthChecks(configuration.probing)
    plane.halfClose = HalfClose(configuration.halfClose)
    plane.pooledConnections = configuration.pooledConnections
    plane.earlyData = EarlyData(configuration.earlyData)
    plane.tuning = StreamSocket.Tuning(configuration)
    plane.connectsDirectly = configuration.upstream.first == .direct
    plane.policy = try Policy(configuration)
    plane.names = NameBook()
    plane.datagrams = try datagrams(scope, store)
    plane.listeners = listeners
    try store.handSockets(to: &plane)
    return try plane.opened(group, report)
  }

  /// Nil where no datagrams are captured.
  private func datagrams(
    _ scope: Scope, _ store: DescriptorStore
  ) throws(CommandFailure) -> DatagramConfiguration? {
    var addresses: [SocketAddress] = []
    for address in scope.datagramAddresses {
      let isHeld = store.holds(.datagrams(address))
      if try isHeld ? true : isAvailable(address, DatagramSocket.checkFree) {
        addresses.append(address)
      }
    }
    guard !addresses.isEmpty else { return nil }
    var datagrams = DatagramConfiguration(configuration, listeners: addresses)
    datagrams.replyMark = scope.policy.numbers.marks.reply.value
    return datagrams
  }

  /// Whether this host has the address at all: one without IPv6 has no `::1`.
  private func isAvailable(
    _ address: SocketAddress, _ check: (SocketAddress) throws(Errno) -> Void
  ) throws(CommandFailure) -> Bool {
    do {
      try check(address)
      return true
    } catch .addressNotAvailable where !address.address.isIPv4 {
      return false
    } catch .familyNotSupported where !address.address.isIPv4 {
      return false
    } catch {
      throw CommandFailure(listen: address, error)
    }
  }
}

extension DataPlaneConfiguration {
  /// The data plane that has this configuration and these upstreams; nil: the embedded server, which
  /// becomes a part of it.
  func opened(
    _ group: UpstreamGroup?, _ report: @escaping @Sendable (Event) -> Void
  ) throws(CommandFailure) -> DataPlane {
    var plane = self
    if let group {
      plane.group = group
      return try plane.opened(report)
    }
    // Holds the embedded server's port until its listeners are on it, at the end of this scope.
    let reservation = try startedUp { () throws(Errno) in
      try StreamSocket.reservePort(on: .v4(.loopback))
    }
    defer { withExtendedLifetime(reservation) {} }
    guard let address = reservation.localAddress else {
      preconditionFailure("a bound socket has an address")
    }
    let credentials = UpstreamSetup.randomCredentials()
    plane.upstream = Upstream(at: .address(address), credentials: credentials)
    plane.serverLogins = Logins(credentials)
    plane.servesItself = true
    plane.listeners.append(ListenerConfiguration(.socks, on: address))
    return try plane.opened(report)
  }

  private func opened(
    _ report: @escaping @Sendable (Event) -> Void
  ) throws(CommandFailure) -> DataPlane {
    do throws(Errno) {
      try tuning?.check()
    } catch {
      throw CommandFailure(
        "--congestion \(tuning?.congestion ?? ""): the kernel does not let connections have it: \(error) "
          + "(see /proc/sys/net/ipv4/tcp_allowed_congestion_control)", .unavailable)
    }
    do {
      return try DataPlane(self, report: report)
    } catch {
      throw CommandFailure(listen: error.address, error.errno)
    }
  }
}

extension DatagramConfiguration {
  init(_ configuration: Configuration, listeners: [SocketAddress]) {
    self.init(listeners: listeners)
    relayPlace = RelayPlace(configuration.datagrams.relay)
    if let count = configuration.datagrams.associations { maximumAssociations = count }
    if let count = configuration.datagrams.associationsPerClient {
      maximumAssociationsPerClient = count
    }
    dns = DNSTransport(configuration.dns)
    resolver = configuration.dnsServer
  }
}

extension Timeouts {
  init(_ configuration: Configuration) {
    self.init()
    func set(_ timeout: inout Timeout, _ seconds: UInt32?) {
      if let seconds { timeout = .seconds(seconds) }
    }
    set(&connect, configuration.timeouts.connect)
    set(&handshake, configuration.timeouts.handshake)
    set(&idle, configuration.timeouts.idle)
    set(&halfClose, configuration.timeouts.halfClose)
    set(&datagrams, configuration.datagrams.timeouts.established)
    set(&unreplied, configuration.datagrams.timeouts.unreplied)
    set(&dns, configuration.datagrams.timeouts.dns)
  }
}

extension HealthChecks {
  init(_ probing: Probing) {
    self.init()
    switch probing.interval {
    case .usual: interval = .usual
    case .off: interval = .never
    case .seconds(let seconds): interval = .every(.seconds(seconds))
    }
    target = probing.target
    timeout = probing.timeout.map { .seconds($0) }
    tolerance = probing.failures
  }
}

extension StreamSocket.Tuning {
  /// Nil where everything is as the system has it.
  init?(_ configuration: Configuration) {
    self.init()
    // TCP_USER_TIMEOUT counts milliseconds.
    userTimeoutMilliseconds = configuration.userTimeout.map { Int32(clamping: UInt64($0) * 1000) }
    congestion = configuration.congestion
    fastOpen = configuration.tcpFastOpen
    if self == StreamSocket.Tuning() { return nil }
  }
}

extension HalfClose {
  init(_ halfClose: Configuration.HalfClose) {
    switch halfClose {
    case .propagate: self = .propagate
    case .hold: self = .hold
    case .auto: self = .automatic
    }
  }
}

extension EarlyData {
  init(_ earlyData: Configuration.EarlyData) {
    switch earlyData {
    case .off: self = .off
    case .on: self = .on
    case .auto: self = .automatic
    }
  }
}

extension RelayPlace {
  fileprivate init(_ relay: UDPRelay) {
    switch relay {
    case .automatic: self = .automatic
    case .reported: self = .reported
    case .control: self = .control
    case .fixed(let address, let port): self = .fixed(address, port: port)
    }
  }
}

extension DNSTransport {
  init(_ dns: Configuration.DNS?) {
    switch dns {
    case nil: self = .automatic
    case .udp: self = .datagrams
    case .tcp: self = .stream
    case .off: self = .ordinary
    }
  }
}
