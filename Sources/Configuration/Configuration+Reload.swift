extension Configuration {
  /// Takes from other settings what can take effect while a run goes on: whose traffic is captured, what
  /// becomes of each class, and how long things may take.
  /// - Returns: the settings that say something else and take a restart, by the names of their options.
  package mutating func adopt(_ other: Configuration) -> [String] {
    var remaining: [String] = []
    func same<Value: Equatable>(_ path: KeyPath<Configuration, Value>, _ name: String) {
      if self[keyPath: path] != other[keyPath: path] { remaining.append(name) }
    }
    destinations = other.destinations
    quic = other.quic
    timeouts = other.timeouts
    datagrams.timeouts = other.datagrams.timeouts
    uncaptured.icmp = other.uncaptured.icmp
    uncaptured.other = other.uncaptured.other
    uncaptured.ipv6 = other.uncaptured.ipv6
    // What is not captured has no listener.
    if (machine == nil) == (other.machine == nil) {
      machine = other.machine
    } else {
      remaining.append("machine")
    }
    if (gateway == nil) == (other.gateway == nil) {
      gateway = other.gateway
    } else {
      remaining.append("gateway")
    }
    // Rules lead to upstreams, and both may be about programs of this host.
    if upstreams == other.upstreams || upstreams.canGiveWay(to: other.upstreams),
      (machine == nil) == (other.machine == nil)
    {
      upstreams = other.upstreams
      isPasswordInArguments = other.isPasswordInArguments
      rules = other.rules
    } else {
      same(\.rules, "rule")
      if !upstreams.hasMembers(of: other.upstreams) { remaining.append("upstream") }
      same(\.upstreams.balance, "balance")
    }
    if uncaptured.udp.isCaptured == other.uncaptured.udp.isCaptured {
      uncaptured.udp = other.uncaptured.udp
    } else {
      remaining.append("udp")
    }
    // Finding out takes what only the start makes.
    if halfClose == other.halfClose || halfClose != .auto && other.halfClose != .auto {
      halfClose = other.halfClose
    } else {
      remaining.append("half-close")
    }
    same(\.dns, "dns")
    same(\.dnsServer, "dns-server")
    same(\.datagrams.relay, "udp-relay")
    same(\.datagrams.associations, "udp-associations")
    same(\.datagrams.associationsPerClient, "udp-per-client")
    same(\.onExit, "on-exit")
    same(\.onUpstreamDown, "on-upstream-down")
    same(\.tcp, "tcp")
    same(\.port, "port")
    same(\.workers, "workers")
    same(\.pooledConnections, "pool")
    same(\.earlyData, "early-data")
    same(\.probing.interval, "probe-interval")
    same(\.probing.target, "probe-target")
    same(\.probing.timeout, "probe-timeout")
    same(\.probing.failures, "probe-failures")
    same(\.tcpFastOpen, "tcp-fast-open")
    same(\.userTimeout, "user-timeout")
    same(\.congestion, "congestion")
    same(\.control, "control")
    same(\.controlGroup, "control-group")
    same(\.metrics, "metrics")
    return remaining
  }
}

extension UpstreamSelection {
  /// Whether others may take the place of these under a run: not that of what this process is itself.
  fileprivate func canGiveWay(to others: UpstreamSelection) -> Bool {
    (members + others.members).allSatisfy { !$0.first.isThisProcess }
  }
}

extension Configuration.ProxyTreatment? {
  /// Whether it may be captured.
  fileprivate var isCaptured: Bool { self == nil || self == .proxy }
}
