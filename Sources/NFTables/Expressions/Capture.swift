package import Addressing

/// `redirect to :PORT`: destination NAT to this host, loopback for its own packets, else the address
/// of the interface where they arrived.
package struct Redirect: Hashable, Sendable, CustomStringConvertible {
  package let port: UInt16

  package init(to port: UInt16) { self.port = port }

  package var description: String { "redirect to :\(port)" }
}

/// `tproxy ip to ADDRESS:PORT`: the packet, unchanged, goes to the socket of its established
/// connection, else to the transparent listener at this address. Without either the rule ends here.
package struct TransparentProxy: Hashable, Sendable, CustomStringConvertible {
  package let listener: SocketAddress

  package init(to listener: SocketAddress) { self.listener = listener }

  package var description: String {
    "tproxy \(listener.address.isIPv4 ? IPFamily.v4.keyword : IPFamily.v6.keyword) to \(listener)"
  }
}
