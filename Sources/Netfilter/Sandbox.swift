package import Addressing
internal import CLibmnl
internal import CLinux
package import LinuxIO
internal import NFTables

/// A network namespace to try things in: its only interface is the loopback, to which every
/// destination leads.
package enum Sandbox {
  /// Moves the calling thread into a new one; needs CAP_SYS_ADMIN and CAP_NET_ADMIN there. It goes
  /// with the last thread in it.
  /// - Parameter addresses: of the host that it is, one of each family that it shall have.
  package static func enter(addresses: [IPAddress]) throws(NetfilterError) {
    do {
      try Namespaces.enterNetwork()
    } catch {
      throw .failed(operation: "make a network namespace", error)
    }
    do throws(Errno) {
      try furnish(addresses: addresses, .onward)
    } catch {
      throw .failed(operation: "set up a network namespace", error)
    }
  }

  /// How every destination leads to the loopback.
  package enum Route: Hashable, Sendable {
    /// As to another host.
    case onward
    /// As to this host: what no rule gives to somebody else is delivered here.
    case here
  }

  /// Makes the calling thread's new namespace such a one. Where IPv6 is disabled it has none.
  package static func furnish(addresses: [IPAddress], _ route: Route) throws(Errno) {
    let socket = try NetlinkSocket(NETLINK_ROUTE)
    try socket.demand(RoutingMessage.loopbackUp)
    for address in addresses {
      do {
        try socket.demand(RoutingMessage.loopbackAddress(address.bytes, address.family))
        switch route {
        case .onward: try socket.demand(RoutingMessage.defaultRouteToLoopback(address.family))
        case .here:
          try socket.demand(
            RoutingMessage.deliveryOfEverything(from: address.bytes, address.family))
        }
      } catch {
        guard !address.isIPv4, PolicyRouting.withoutIPv6.contains(error) else { throw error }
      }
    }
  }

  /// Has connections there begin without pacing, if they would be paced: none of its ways is long. What a
  /// container does not let it change stays.
  package static func leavePacing() {
    let setting = Sysctl("net.ipv4.tcp_congestion_control")
    guard setting.value == StreamSocket.paced.description else { return }
    try? setting.set(StreamSocket.unpaced.description)
  }
}

extension NetlinkSocket {
  /// Sends one message that must not be refused.
  fileprivate func demand(_ message: [UInt8]) throws(Errno) {
    if let error = try acknowledgements(to: message, count: 1).first?.error { throw error }
  }
}
