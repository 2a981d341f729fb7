internal import Addressing
internal import LinuxIO
internal import SOCKS

/// What captured flows fill in in the upstream's credentials. Where those are the same for all, nothing
/// is asked or made.
extension Worker {
  func identity(
    ofConnectionFrom client: SocketAddress, to destination: SocketAddress
  ) -> FlowIdentity? {
    guard let group = configuration.group, !group.attributes.isEmpty else { return nil }
    return FlowIdentity(
      client: client.address, to: .address(destination),
      owner: owner(.stream, client, destination, group.attributes))
  }

  /// - Parameter destination: of the first datagram.
  func identity(
    ofDatagramsFrom client: SocketAddress, to destination: SocketAddress
  ) -> FlowIdentity? {
    guard let group = configuration.group, !group.attributes.isEmpty else { return nil }
    let isQuery = destination.port == Self.dnsPort && configuration.datagrams?.dns != .ordinary
    return FlowIdentity(
      client: client.address,
      to: .address(isQuery ? resolver(insteadOf: destination) : destination),
      owner: owner(.datagrams, client, destination, group.attributes))
  }

  private func owner(
    _ transport: SocketDiagnosis.Transport, _ client: SocketAddress, _ destination: SocketAddress,
    _ attributes: Set<FlowAttribute>
  ) -> FlowIdentity.Owner {
    switch configuration.owners {
    case .unknown: return FlowIdentity.Owner()
    case .fixed(let owner): return owner
    case .bySocket:
      guard let owners = socketOwners,
        let found = owners.owner(of: transport, at: client, to: destination)
      else { return FlowIdentity.Owner() }
      return FlowIdentity.Owner(
        user: found.user, group: attributes.contains(.group) ? owners.group(of: found) : nil,
        controlGroup: attributes.contains(.controlGroup)
          ? found.controlGroup.map(owners.path) : nil)
    }
  }
}

extension DataPlaneConfiguration {
  /// Nil where no credentials tell of programs and no rule asks for users, or their sockets are not of this network namespace.
  func makeSocketOwners() throws(Errno) -> SocketOwners? {
    let asksForPrograms =
      group?.attributes.isDisjoint(with: [.user, .group, .controlGroup]) == false
      || policy?.concernsUsers == true
    guard case .bySocket = owners, asksForPrograms else { return nil }
    return try SocketOwners()
  }
}
