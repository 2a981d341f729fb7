package import Addressing
internal import RedirectPolicy

/// Whom `sluice probe` has the upstream connect to.
package struct ProbeTargets: Hashable, Sendable {
  /// Quad9, in the absence of a resolver of this host's that others reach.
  private static let address = SocketAddress(.v4(IPv4Address(bits: 0x0909_0909)), 53)
  private static let addressV6 = SocketAddress(
    .v6(IPv6Address(high: 0x2620_00FE_0000_0000, low: 0xFE)), 53)
  private static let name = "dns.quad9.net"

  /// By IPv4, by IPv6 and by name.
  private(set) var ipv4 = Endpoint.address(address)
  private(set) var ipv6 = Endpoint.address(addressV6)
  private(set) var named: Endpoint
  /// Who is asked by UDP, and by TCP in every way that there is.
  let resolver: SocketAddress
  private var isChosen: Set<String> = []

  /// - Parameters:
  ///   - texts: `HOST:PORT`, at most one of each kind.
  ///   - resolver: nil: one that this host asks, if everybody can reach it, or else Quad9.
  package init(_ texts: [String], resolver: SocketAddress?) throws(CommandFailure) {
    guard let name = HostName(Self.name) else { preconditionFailure("a name is one") }
    named = .name(name, port: 53)
    self.resolver = Self.resolver(resolver)
    if self.resolver.address.isIPv4 {
      ipv4 = .address(self.resolver)
    } else {
      ipv6 = .address(self.resolver)
    }
    for text in texts {
      guard let target = Endpoint(text), target.port > 0 else {
        throw CommandFailure(
          "--target \(text): expected a host and a port, such as 192.0.2.7:443, [2001:db8::7]:443 or "
            + "example.com:443", .usage)
      }
      switch target {
      case .address(let address) where address.address.isIPv4:
        try choose("IPv4 address", target)
        ipv4 = target
      case .address:
        try choose("IPv6 address", target)
        ipv6 = target
      case .name:
        try choose("name", target)
        named = target
      }
    }
  }

  private mutating func choose(
    _ kind: String, _ target: Endpoint
  ) throws(CommandFailure) {
    guard isChosen.insert(kind).inserted else {
      throw CommandFailure("--target \(target): a second \(kind): give one of each kind", .usage)
    }
  }

  /// Whether a target answers the question of a resolver.
  func isResolver(_ target: Endpoint) -> Bool {
    target.port == 53 || target == .address(resolver)
  }

  /// Who is asked: the one that the user has chosen, or else the first that this host asks and that is
  /// nobody's private one, or else Quad9.
  static func resolver(_ chosen: SocketAddress?) -> SocketAddress {
    if let chosen { return chosen }
    let servers = NameServers.current()
    let usual = RedirectPolicy(machine: RedirectPolicy.Machine(.tproxy))
    let direct = servers.direct(under: usual)
    let own = (servers.asked + servers.askedByStub).first { !direct.contains($0) }
    return own.map { SocketAddress($0, 53) } ?? address
  }
}
