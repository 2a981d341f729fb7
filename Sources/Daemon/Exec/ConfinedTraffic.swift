internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import NFTables
internal import RedirectPolicy

/// What an engine carries of a confined program: which sockets it needs of the namespace follows from
/// this alone, wherever it runs.
struct ConfinedTraffic: Hashable, Sendable {
  /// Whether the host has IPv6 at all.
  var hasIPv6: Bool
  /// UDP, or DNS alone.
  var includesDatagrams: Bool
  /// As `Configuration.dns`.
  var dns: Configuration.DNS?
  /// Where all queries go; nil: where they were sent to.
  var resolver: SocketAddress?

  var families: [IPFamily] { hasIPv6 ? [.v4, .v6] : [.v4] }
  var loopbacks: [IPAddress] { families.map(\.loopback) }

  /// The data plane for it, without an upstream and a limit of descriptors.
  /// - Parameter configuration: says how it is carried.
  func plane(_ configuration: Configuration, workers: Int) -> DataPlaneConfiguration {
    let port = ConfinementPolicy.port
    let addresses = loopbacks.map { SocketAddress($0, port) }
    var plane = DataPlaneConfiguration(
      workers: workers, listeners: addresses.map { ListenerConfiguration(.tproxy, on: $0) },
      descriptorLimit: 0)
    plane.detectsLoops = false
    plane.timeouts = Timeouts(configuration)
    plane.healthChecks = HealthChecks(configuration.probing)
    plane.halfClose = HalfClose(configuration.halfClose)
    plane.pooledConnections = configuration.pooledConnections
    plane.earlyData = EarlyData(configuration.earlyData)
    plane.tuning = StreamSocket.Tuning(configuration)
    plane.connectsDirectly = configuration.upstream.first == .direct
    if includesDatagrams {
      plane.datagrams = DatagramConfiguration(configuration, listeners: addresses)
      plane.datagrams?.dns = DNSTransport(dns)
      plane.datagrams?.resolver = resolver
    }
    return plane
  }
}

extension IPFamily {
  fileprivate var loopback: IPAddress { self == .v4 ? .v4(.loopback) : .v6(.loopback) }
}
