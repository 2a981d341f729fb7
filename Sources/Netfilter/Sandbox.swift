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
      try furnish(addresses: addresses)
    } catch {
      throw .failed(operation: "set up a network namespace", error)
    }
  }

  /// Makes the calling thread's new namespace such a one.
  package static func furnish(addresses: [IPAddress]) throws(Errno) {
    let socket = try NetlinkSocket(NETLINK_ROUTE)
    var messages = [RoutingMessage.loopbackUp]
    for address in addresses {
      messages += [
        RoutingMessage.loopbackAddress(address.bytes, address.family),
        RoutingMessage.defaultRouteToLoopback(address.family),
      ]
    }
    for message in messages {
      if let error = try socket.acknowledgements(to: message, count: 1).first?.error {
        throw error
      }
    }
  }
}
