package import Addressing
internal import CLinux

/// Where a captured connection wanted to go, as the kernel tells it. Not a socket address that
/// happens to be one: it must never be mistaken for where a socket is bound or connected.
package struct OriginalDestination: Hashable, Sendable, CustomStringConvertible {
  package let address: SocketAddress

  package init(_ address: SocketAddress) { self.address = address }

  package var description: String { address.description }
}

extension Descriptor {
  /// The destination before `redirect` changed it, from connection tracking: `SO_ORIGINAL_DST`
  /// (<linux/netfilter_ipv4.h>) and `IP6T_SO_ORIGINAL_DST`.
  ///
  /// Throws ENOENT if the connection is not tracked. A connection made directly to the listener
  /// gives the listener's own address: the caller has to compare.
  package borrowing func redirectedDestination(
    isIPv4: Bool
  ) throws(Errno) -> OriginalDestination {
    let descriptor = rawValue
    let (result, address) = SocketAddress.filled { address, length in
      isIPv4
        ? clx_get_option(descriptor, Int32(IPPROTO_IP), SO_ORIGINAL_DST, address, length)
        : clx_get_option(
          descriptor, Int32(IPPROTO_IPV6), Int32(CLX_IP6T_SO_ORIGINAL_DST), address,
          length)
    }
    _ = try checked(result)
    guard let address else { throw .familyNotSupported }
    return OriginalDestination(address)
  }

  /// The destination of a connection that `tproxy` delivered: its local address.
  package borrowing func transparentDestination() throws(Errno) -> OriginalDestination {
    guard let address = localAddress else { throw .familyNotSupported }
    return OriginalDestination(address.unmapped)
  }
}
