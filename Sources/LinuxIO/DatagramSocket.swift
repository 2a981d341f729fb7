package import Addressing
internal import CLinux

/// A UDP socket, always non-blocking and close-on-exec.
package enum DatagramSocket {
  /// An unbound socket of the family of `address`.
  package static func open(for address: SocketAddress) throws(Errno) -> Descriptor {
    Descriptor(owning: try checked(clx_datagram_socket(address.kernelFamily)))
  }

  /// A socket that gets datagrams for any address (TPROXY) and tells their destinations; needs
  /// CAP_NET_ADMIN.
  package static func openTransparent(on address: SocketAddress) throws(Errno) -> Descriptor {
    let socket = try open(for: address)
    let options = OptionNames(isIPv4: address.address.isIPv4)
    for name in [options.transparent, options.destination] {
      var one: Int32 = 1
      _ = try checked(clx_set_option(socket.rawValue, options.level, name, &one, 4))
    }
    _ = try checked(address.withKernelAddress { clx_bind(socket.rawValue, $0, $1) })
    return socket
  }

  /// Sends one datagram (`sendto(2)`).
  package static func send(
    _ bytes: [UInt8], from socket: borrowing Descriptor, to address: SocketAddress
  ) throws(Errno) {
    let descriptor = socket.rawValue
    _ = try checked(
      address.withKernelAddress { clx_send_to(descriptor, bytes, bytes.count, $0, $1) })
  }

  /// The next datagram, cut to 2 KiB, and where it was sent; nil if none is there. For sockets of
  /// `openTransparent`.
  package static func receive(
    from socket: borrowing Descriptor, isIPv4: Bool
  ) -> (bytes: [UInt8], destination: OriginalDestination?)? {
    let options = OptionNames(isIPv4: isIPv4)
    var buffer = [UInt8](repeating: 0, count: 2048)
    var storage = sockaddr_storage()
    // SAFETY: the kernel writes at most `buffer.count` bytes, and at most one address.
    let count = clx_receive_with_destination(
      socket.rawValue, &buffer, buffer.count, options.level, options.destination, &storage)
    guard count >= 0 else { return nil }
    return (Array(buffer[..<count]), SocketAddress(kernel: storage).map(OriginalDestination.init))
  }

  /// Socket options and control messages of a family (`ip(7)`, <linux/in6.h>).
  private struct OptionNames {
    let level: Int32
    let transparent: Int32
    let destination: Int32

    init(isIPv4: Bool) {
      level = Int32(isIPv4 ? IPPROTO_IP : IPPROTO_IPV6)
      transparent = isIPv4 ? IP_TRANSPARENT : Int32(CLX_IPV6_TRANSPARENT)
      destination = isIPv4 ? IP_ORIGDSTADDR : Int32(CLX_IPV6_ORIGDSTADDR)
    }
  }
}
