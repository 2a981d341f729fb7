internal import Addressing
package import Configuration
internal import DataPlane
internal import LinuxIO
package import Logging
internal import SOCKS

/// `sluice expose`: a service of this host that is reached through the upstream, which listens for it
/// (BIND). Needs no privilege.
package struct ExposeCommand {
  /// What is published, as it is written on the command line.
  package struct Options: Sendable {
    /// A port of 127.0.0.1, or `host:port`.
    package var service: String
    /// The address from which alone somebody may come; nil: from anywhere.
    package var peer: String?
    /// The port that the upstream is asked for; nil: that of the service.
    package var publicPort: UInt16?

    package init(service: String) { self.service = service }
  }

  private let service: Endpoint
  private let peer: IPAddress?
  private let publicPort: UInt16
  private let configuration: Configuration
  private let log: Logger

  /// - Parameter configuration: upstream and timeouts; what is captured is not used.
  package init(
    _ options: Options, _ configuration: Configuration, log: Logger
  ) throws(CommandFailure) {
    service = try Self.service(options.service)
    peer = try Self.peer(options.peer, through: configuration.upstream.last)
    publicPort = options.publicPort ?? service.port
    self.configuration = configuration
    self.log = log
    try Self.check(configuration.upstream)
  }

  /// Blocks until SIGINT or SIGTERM.
  package func run() throws(CommandFailure) {
    let descriptors = DescriptorLimit.raise()
    let chain = configuration.upstream
    let timeouts = Timeouts(configuration)
    let addresses = try serviceAddresses()
    let upstream = try UpstreamSetup.reach(
      try UpstreamSetup.places(chain.first), chain, mark: nil, timeout: timeouts.connect)
    let supervisor = try startedUp { () throws(Errno) in
      try Supervisor(reporter: Reporter(log: log, upstreams: configuration.upstreams))
    }
    var plane = DataPlaneConfiguration(workers: 1, listeners: [], descriptorLimit: descriptors)
    plane.timeouts = timeouts
    plane.detectsLoops = false
    plane.upstream = upstream
    plane.exposure = Exposure(of: addresses, for: peer, port: publicPort)
    let dataPlane: DataPlane
    do {
      dataPlane = try DataPlane(plane, report: supervisor.post)
    } catch {
      throw CommandFailure("cannot start: \(error.errno)", .unavailable)
    }
    let monitor = try startedUp { () throws(Errno) in
      try ExposureMonitor(
        of: service, chain, upstream, supervisor, timeout: timeouts.connect, log: log)
    }
    UpstreamSecrets.tell(configuration, log)
    try startedUp { () throws(Errno) in try dataPlane.start() }
    supervisor.waitForEnd(of: dataPlane) { monitor.refusal != nil }
    dataPlane.stop()
    if let refusal = monitor.refusal { throw refusal }
    supervisor.summarise(dataPlane)
  }

  /// All addresses of the service, in the order in which they are tried.
  private func serviceAddresses() throws(CommandFailure) -> [SocketAddress] {
    switch service {
    case .address(let address): return [address]
    case .name(let name, let port):
      let addresses = NameResolution.addresses(of: name)
      guard !addresses.isEmpty else {
        throw CommandFailure(
          "cannot resolve \(name): check the name, or give the service's address instead",
          .unavailable)
      }
      return addresses.map { SocketAddress($0, port) }
    }
  }

  // MARK: Arguments

  private static func service(_ text: String) throws(CommandFailure) -> Endpoint {
    let endpoint =
      UInt16(decimalPort: text).map { Endpoint.address(SocketAddress(.v4(.loopback), $0)) }
      ?? Endpoint(text)
    guard let endpoint, endpoint.port != 0 else {
      throw CommandFailure("\(text): expected a port, or HOST:PORT", .usage)
    }
    return endpoint
  }

  private static func peer(
    _ text: String?, through upstream: UpstreamURL
  ) throws(CommandFailure) -> IPAddress? {
    guard let text else { return nil }
    guard let address = IPAddress(text), !address.isUnspecified else {
      throw CommandFailure("--from \(text): expected an IPv4 or IPv6 address", .usage)
    }
    guard address.isIPv4 || upstream.hasIPv6 else {
      throw CommandFailure("--from \(text): \(upstream) has no IPv6", .usage)
    }
    return address
  }

  private static func check(_ chain: UpstreamChain) throws(CommandFailure) {
    switch chain.last {
    case .socks5, .gssapi, .socks4, .socks4a: return
    case .http:
      throw CommandFailure(
        "\(chain.name(ofHop: chain.hops.count - 1)): an HTTP proxy cannot listen for us: expected a "
          + "SOCKS server, such as socks5://host", .usage)
    case .embedded, .direct:
      throw CommandFailure(
        "\(chain): a service is published by a server elsewhere: expected a SOCKS server, such as "
          + "socks5://host", .usage)
    }
  }
}
