package import Addressing

/// Settings of one confined program as they were written.
package struct ProgramOptions: Hashable, Sendable {
  /// Upstream and traffic; what says whose traffic is captured is not used.
  package var engine = Options()
  /// The program and its arguments.
  package var command: [String] = []
  /// Set in its environment.
  package var environment: [String: String] = [:]
  package var publish: [String] = []
  package var hostLoopback: [String] = []
  package var preserveDescriptors: Int?
  /// Seconds.
  package var linger: Int?
  package var audit = false
  package var auditFile: String?
  /// A `sluice run` is the engine; `engine.control` says where it is.
  package var daemon = false

  package init() {}
}

/// The same, checked.
package struct ProgramConfiguration: Hashable, Sendable {
  /// A port of this host's loopback that leads to one of the program's.
  package struct Publication: Hashable, Sendable {
    package let port: UInt16
    package let inside: UInt16
  }

  /// Where the list of what the program talked to goes.
  package enum Audit: Hashable, Sendable {
    case standardError
    case file(String)
  }

  /// What is said if there is no program, or none that could be told from the upstream.
  package static let noProgram = ConfigurationError(
    "no program given: it stands behind two dashes, as in: sluice exec socks5://proxy:1080 -- curl "
      + "example.com")

  package static let maximumPreserved = 1024

  package let engine: Configuration
  /// Not empty.
  package let command: [String]
  /// Set in its environment.
  package let environment: [String: String]
  package let publications: [Publication]
  /// Ports of this host's loopback that the program reaches under the same number.
  package let hostLoopback: [UInt16]
  /// How many descriptors from 3 on the program inherits.
  package let preservedDescriptors: Int32
  /// How long the engine goes on behind the program while others live in its namespace, in seconds; nil:
  /// as long as they do.
  package let linger: UInt32?
  package let audit: Audit?
  /// The control socket of the `sluice run` that is the engine; nil: that is this process.
  package let daemon: SocketPath?

  package init(_ options: ProgramOptions) throws(ConfigurationError) {
    guard !options.command.isEmpty else { throw Self.noProgram }
    command = options.command
    environment = options.environment
    var everything = options.engine
    everything.machine = true
    engine = try Configuration(everything)
    guard engine.upstreams.names.allSatisfy({ $0 == nil }) else {
      throw ConfigurationError(
        "--upstream: one with a name takes what a --rule sends there, and a confined program has none: "
          + "leave out the name")
    }
    for (flag, treatment) in [("--udp", engine.uncaptured.udp), ("--ipv6", engine.uncaptured.ipv6)]
    where treatment == .bypass {
      throw ConfigurationError(
        "\(flag) bypass: a confined program has no other way than the upstream: expected proxy or reject"
      )
    }
    publications = try options.publish.map(Publication.init)
    hostLoopback = try options.hostLoopback.map { (text) throws(ConfigurationError) in
      try parsePort(text, "--host-loopback \(text)")
    }
    for (flag, ports) in [
      ("--publish", publications.map(\.port)), ("--host-loopback", hostLoopback),
    ] where Set(ports).count < ports.count {
      throw ConfigurationError("\(flag): a port is given twice")
    }
    let preserved = options.preserveDescriptors ?? 0
    guard (0...Self.maximumPreserved).contains(preserved) else {
      throw ConfigurationError(
        "--preserve-fds \(preserved): expected 0 to \(Self.maximumPreserved)")
    }
    preservedDescriptors = Int32(preserved)
    linger =
      options.linger == 0 ? 0 : try seconds(options.linger, "--linger")
    audit = options.auditFile.map { .file($0) } ?? (options.audit ? .standardError : nil)
    daemon = try options.daemonPath()
  }
}

extension ProgramOptions {
  /// Nil where this process is the engine.
  fileprivate func daemonPath() throws(ConfigurationError) -> SocketPath? {
    guard daemon else {
      guard engine.control == nil else {
        throw ConfigurationError(
          "--control says where the run of --daemon is: give both of them, or none")
      }
      return nil
    }
    guard engine.upstream == nil, engine.furtherUpstreams.isEmpty else {
      throw ConfigurationError(
        "--daemon uses the upstream of the run: leave out either that or the upstream")
    }
    guard publish.isEmpty, hostLoopback.isEmpty else {
      throw ConfigurationError(
        "--publish and --host-loopback are not to be had with --daemon, which would open ports as "
          + "root: leave that out")
    }
    if let flag = engine.engineFlags.first {
      throw ConfigurationError(
        "\(flag) is a matter of the run with --daemon: give it to sluice run")
    }
    return try controlPath(engine.control)
  }
}

extension Options {
  /// What was said of how an engine works, by its flags.
  fileprivate var engineFlags: [String] {
    let settings: [(String, Bool)] = [
      ("--password-file", passwordFile != nil), ("--balance", balance != nil),
      ("--workers", workers != nil), ("--connect-timeout", connectTimeout != nil),
      ("--handshake-timeout", handshakeTimeout != nil), ("--idle-timeout", idleTimeout != nil),
      ("--pool", pool != nil), ("--early-data", earlyData != nil), ("--tcp-fast-open", tcpFastOpen),
      ("--probe-interval", probeInterval != nil), ("--probe-target", probeTarget != nil),
      ("--probe-timeout", probeTimeout != nil), ("--probe-failures", probeFailures != nil),
      ("--user-timeout", userTimeout != nil), ("--congestion", congestion != nil),
      ("--half-close", halfClose != nil),
      ("--half-close-timeout", halfCloseTimeout != nil),
      ("--udp-unreplied-timeout", udpUnrepliedTimeout != nil),
      ("--udp-timeout", udpTimeout != nil), ("--dns-timeout", dnsTimeout != nil),
      ("--udp-associations", udpAssociations != nil), ("--udp-per-client", udpPerClient != nil),
      ("--udp-relay", udpRelay != nil),
    ]
    return settings.filter(\.1).map(\.0)
  }
}

extension ProgramConfiguration.Publication {
  /// `PORT` or `PORT:INSIDE`.
  fileprivate init(_ text: String) throws(ConfigurationError) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    guard let first = parts.first, let last = parts.last, parts.count <= 2 else {
      throw ConfigurationError(
        "--publish \(text): expected a port of this host, or that and one of the program's, such as "
          + "8080 or 8080:80")
    }
    self.init(
      port: try parsePort(first, "--publish \(text)"),
      inside: try parsePort(last, "--publish \(text)"))
  }
}

/// - Parameter setting: the flag and all of its text.
private func parsePort(_ text: String, _ setting: String) throws(ConfigurationError) -> UInt16 {
  guard let port = UInt16(text), port > 0 else {
    throw ConfigurationError("\(setting): expected a port, 1 to 65535")
  }
  return port
}
