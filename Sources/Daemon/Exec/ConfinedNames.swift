internal import Addressing
internal import Configuration
internal import LinuxIO

/// Whom a confined program asks for names. A resolver on this host's loopback is out of its reach, and
/// what that would ask is asked through the upstream instead.
struct ConfinedNames: Equatable {
  /// Where all its queries go; nil: whom it asks.
  let resolver: SocketAddress?
  /// Its `/etc/resolv.conf`; nil: this host's will do.
  let file: String?
  /// Nobody is known whom it could ask.
  let isLost: Bool

  init(_ configuration: Configuration, _ upstream: UpstreamChain, _ servers: NameServers) {
    var (resolver, file) = (configuration.dnsServer, String?.none)
    var isLost = false
    if resolver == nil, servers.asked.isEmpty {
      if !servers.askedByStub.isEmpty {
        file = servers.file(asking: servers.askedByStub)
      } else if upstream.first.isThisProcess, configuration.dns != .off {
        // It is on this host, and reaches its loopback.
        resolver = SocketAddress(servers.stubs.first ?? .v4(.loopback), 53)
      } else {
        isLost = true
      }
    }
    (self.resolver, self.file, self.isLost) = (resolver, file, isLost)
  }
}
