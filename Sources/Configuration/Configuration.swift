package import Addressing

/// Every setting, checked: what this accepts can be carried out as far as the settings go.
package struct Configuration: Hashable, Sendable {
  /// How TCP is captured.
  package enum Capture: String, Hashable, Sendable, CaseIterable {
    /// NAT to the listener, and SO_ORIGINAL_DST.
    case redirect
    /// Delivery to a transparent socket, without NAT.
    case tproxy
  }

  /// What becomes of selected traffic that cannot be captured.
  package enum Treatment: String, Hashable, Sendable, CaseIterable {
    case bypass
    case reject
  }

  /// What becomes of selected traffic that can be captured.
  package enum ProxyTreatment: String, Hashable, Sendable, CaseIterable {
    case proxy
    case bypass
    case reject
  }

  /// What becomes of QUIC, which is UDP to port 443.
  package enum QUICTreatment: String, Hashable, Sendable, CaseIterable {
    /// The same as of other UDP.
    case proxy
    case reject
  }

  /// How DNS that is captured reaches a resolver.
  package enum DNS: String, Hashable, Sendable, CaseIterable {
    /// As datagrams, like other UDP.
    case udp
    /// By connections through the upstream.
    case tcp
    /// It is no matter of its own: port 53 is like any other.
    case off
  }

  /// What the upstream hears when a program stops sending and still wants the answer.
  package enum HalfClose: String, Hashable, Sendable, CaseIterable {
    case propagate
    /// Nothing: for servers that would drop the rest of the answer.
    case hold
    /// What suits the upstream, as far as that is found out.
    case auto
  }

  /// Whether what a program has said goes out before the upstream's reply.
  package enum EarlyData: String, Hashable, Sendable, CaseIterable {
    case on, off
    /// Where that is found to arrive.
    case auto
  }

  /// Whether traffic that should be captured goes directly while it cannot be.
  package enum Fallback: String, Hashable, Sendable, CaseIterable {
    case open
    case closed
  }

  /// In seconds; 1 to `maximumTimeout`.
  package struct Timeouts: Hashable, Sendable {
    package var connect: UInt32?
    package var handshake: UInt32?
    package var idle: UInt32?
    package var halfClose: UInt32?
    package var drain: UInt32 = 10
  }

  /// Selected traffic that is not, or need not be, captured, by class.
  package struct Uncaptured: Hashable, Sendable {
    /// Nil: captured if the upstream can carry it, else rejected.
    package var udp: ProxyTreatment?
    /// Nil: what suits `onExit`.
    package var icmp: Treatment?
    /// Nil: what suits `onExit`.
    package var other: Treatment?
    /// Nil: captured if the upstream can carry it.
    package var ipv6: ProxyTreatment?
  }

  package static let defaultPort: UInt16 = 10880
  package static let maximumTimeout = 30 * 24 * 3600
  package static let maximumWorkers = 256
  package static let maximumPool = 1024
  package static let defaultControl = "/run/sluice/control.sock"

  package internal(set) var upstreams: UpstreamSelection
  /// The first that a flow meets decides over it.
  package internal(set) var rules: [PolicyRule]
  /// Every user of the host can read the upstream's password.
  package internal(set) var isPasswordInArguments: Bool
  /// Nil: this host's own traffic is left alone.
  package internal(set) var machine: MachineSelection?
  /// Nil: what arrives from others is left alone.
  package internal(set) var gateway: GatewaySelection?
  package internal(set) var destinations: DestinationSelection
  package internal(set) var uncaptured: Uncaptured
  package internal(set) var quic: QUICTreatment
  /// Nil: by UDP if the upstream can carry it, else by TCP.
  package let dns: DNS?
  /// The resolver that captured queries are sent to; nil: whichever they were sent to.
  package let dnsServer: SocketAddress?
  package internal(set) var datagrams: Datagrams
  package let onExit: Fallback
  package let onUpstreamDown: Fallback
  /// Nil: what suits the scope.
  package let tcp: Capture?
  /// The redirect listener's port; the tproxy listener has the next one.
  package let port: UInt16
  /// Nil: one per processor.
  package let workers: Int?
  package internal(set) var halfClose: HalfClose
  /// Connections that are kept ready with each upstream at most.
  package let pooledConnections: Int
  package let earlyData: EarlyData
  package let probing: Probing
  /// The first bytes to an upstream go with the SYN.
  package let tcpFastOpen: Bool
  /// Nil: the system's.
  package let congestion: String?
  /// Seconds; nil: as the system has it.
  package let userTimeout: UInt32?
  package internal(set) var timeouts: Timeouts
  /// Of the socket at which other processes talk to a run; nil: none.
  package let control: SocketPath?
  /// Who may use that, and a Unix socket of metrics, beside root, by name; nil: the group `sluice`, if there
  /// is one.
  package let controlGroup: String?
  /// Nil: nowhere.
  package let metrics: MetricsPlace?

  package init(_ options: Options) throws(ConfigurationError) {
    upstreams = try UpstreamSelection(options)
    rules = try PolicyRule.rules(options.rules, upstreams)
    isPasswordInArguments = options.showsPassword
    machine = try MachineSelection(options)
    gateway = try GatewaySelection(options)
    guard machine != nil || gateway != nil else {
      throw ConfigurationError(
        "nothing to capture: give --machine for this host's own traffic, --gateway INTERFACE for "
          + "what arrives from a LAN, or both")
    }
    guard machine != nil || !upstreams.placeholders.contains(where: \.isOfProgram) else {
      throw ConfigurationError(
        "{uid}, {gid} and {cgroup} of the upstream's user or password are of programs of this host, "
          + "and --gateway alone captures those of others: give --machine, too, or leave them out")
    }
    if machine == nil, let rule = rules.first(where: { !$0.users.isEmpty }) {
      throw ConfigurationError(
        "--rule \(rule.label): uids are of programs of this host, and --gateway alone captures those of "
          + "others: give --machine, too, or leave them out")
    }
    destinations = try DestinationSelection(options)
    uncaptured = Uncaptured(
      udp: try choice(options.udp, "--udp"), icmp: try choice(options.icmp, "--icmp"),
      other: try choice(options.other, "--other"), ipv6: try choice(options.ipv6, "--ipv6"))
    quic = try choice(options.quic, "--quic") ?? .proxy
    dns = try choice(options.dns, "--dns")
    dnsServer = try options.dnsServer.map { (text) throws(ConfigurationError) in
      try parseResolver(text, "--dns-server")
    }
    guard dnsServer == nil || dns != .off else {
      throw ConfigurationError(
        "--dns-server says where captured DNS goes, and --dns off captures none: give only one of "
          + "the two")
    }
    datagrams = try Datagrams(options)
    let carriers = PolicyRule.datagramCarriers(rules, upstreams)
    for (flag, isProxied) in [
      ("--udp proxy", uncaptured.udp == .proxy), ("--dns udp", dns == .udp),
    ] where isProxied {
      if let obstacle = upstreams.obstacleToDatagrams(of: carriers) {
        throw ConfigurationError(
          "\(flag): \(obstacle): leave it out, and DNS goes by TCP and other UDP is rejected")
      }
    }
    onExit = try choice(options.onExit, "--on-exit") ?? .open
    onUpstreamDown = try choice(options.onUpstreamDown, "--on-upstream-down") ?? .closed
    tcp = try choice(options.tcp, "--tcp")
    let port = options.port ?? Int(Self.defaultPort)
    guard (1...65534).contains(port) else {
      throw ConfigurationError(
        "--port \(port): expected 1 to 65534, since the port after it is used too")
    }
    self.port = UInt16(port)
    if let workers = options.workers, !(1...Self.maximumWorkers).contains(workers) {
      throw ConfigurationError("--workers \(workers): expected 1 to \(Self.maximumWorkers)")
    }
    workers = options.workers
    halfClose = try choice(options.halfClose, "--half-close") ?? .propagate
    pooledConnections = options.pool ?? 0
    guard (0...Self.maximumPool).contains(pooledConnections) else {
      throw ConfigurationError("--pool \(pooledConnections): expected 0 to \(Self.maximumPool)")
    }
    guard pooledConnections == 0 || upstreams.balance != .race else {
      throw ConfigurationError(
        "--pool keeps connections ready, which a race has no use for: leave out --pool or "
          + "--balance race")
    }
    earlyData = try choice(options.earlyData, "--early-data") ?? .off
    probing = try Probing(options)
    guard probing.interval != .off || upstreams.balance != .fastest else {
      throw ConfigurationError(
        "--balance fastest needs to measure: leave out that or --probe-interval off")
    }
    tcpFastOpen = options.tcpFastOpen
    congestion = options.congestion
    // TCP_CA_NAME_MAX of the kernel, its zero byte included.
    if let congestion, !(1...15).contains(congestion.utf8.count) || congestion.contains("\0") {
      throw ConfigurationError(
        "--congestion \(congestion): expected the name of a congestion control, such as cubic")
    }
    var timeouts = Timeouts()
    timeouts.connect = try seconds(options.connectTimeout, "--connect-timeout")
    timeouts.handshake = try seconds(options.handshakeTimeout, "--handshake-timeout")
    userTimeout = try seconds(options.userTimeout, "--user-timeout")
    timeouts.idle = try seconds(options.idleTimeout, "--idle-timeout")
    timeouts.halfClose = try seconds(options.halfCloseTimeout, "--half-close-timeout")
    if let drain = options.drainTimeout, drain == 0 {
      timeouts.drain = 0
    } else if let drain = try seconds(options.drainTimeout, "--drain-timeout") {
      timeouts.drain = drain
    }
    self.timeouts = timeouts
    control = options.control == "none" ? nil : try controlPath(options.control)
    metrics = try options.metrics.map { (text) throws(ConfigurationError) in
      try MetricsPlace(text)
    }
    let hasMetricsFile = if case .file = metrics { true } else { false }
    guard options.controlGroup == nil || control != nil || hasMetricsFile else {
      throw ConfigurationError(
        "--control-group says who may use the control socket, and --control none opens none: give "
          + "only one of the two")
    }
    controlGroup = options.controlGroup
  }
}

extension Configuration {
  /// The only upstream, or the first.
  package var upstream: UpstreamChain { upstreams.members[0] }
}

extension Options {
  /// Whether a URL that stands in the arguments has a password.
  fileprivate var showsPassword: Bool {
    let visible = (isUpstreamHidden ? [] : [upstream].compactMap { $0 }) + furtherUpstreams
    return visible.contains {
      (try? UpstreamChain(UpstreamSelection.url($0)))?.hasPassword == true
    }
  }
}

/// One of the words of a setting.
func choice<Value: RawRepresentable<String> & CaseIterable>(
  _ text: String?, _ flag: String
) throws(ConfigurationError) -> Value? {
  guard let text else { return nil }
  guard let value = Value(rawValue: text) else {
    let words = Value.allCases.map(\.rawValue)
    throw ConfigurationError(
      "\(flag) \(text): expected \(words.dropLast().joined(separator: ", ")) or \(words.last ?? "")"
    )
  }
  return value
}

/// 1 to `maximumTimeout`.
func seconds(_ value: Int?, _ flag: String) throws(ConfigurationError) -> UInt32? {
  guard let value else { return nil }
  guard (1...Configuration.maximumTimeout).contains(value) else {
    throw ConfigurationError(
      "\(flag) \(value): expected seconds, 1 to \(Configuration.maximumTimeout)")
  }
  return UInt32(value)
}

/// Where the control socket is.
func controlPath(_ text: String?) throws(ConfigurationError) -> SocketPath {
  let text = text ?? Configuration.defaultControl
  guard let path = SocketPath(Array(text.utf8)) else {
    throw ConfigurationError(
      "--control \(text): expected an absolute path of at most \(SocketPath.maximumBytes) bytes")
  }
  return path
}
