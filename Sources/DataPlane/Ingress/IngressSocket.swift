package import Addressing
package import LinuxIO

/// A socket of the captured side, which may be of another network namespace than the rest: a process in
/// there opens it, and hands it over.
package enum IngressSocket: Hashable, Sendable {
  /// Accepts connections; those to other addresses than our own as well, if it is transparent.
  case stream(SocketAddress, isTransparent: Bool)
  /// Takes datagrams to any address.
  case datagrams(SocketAddress)
  /// Sends datagrams as from any address.
  case replies(isIPv4: Bool)

  /// What may wait to be received: a burst of thousands of datagrams, or a few dozen that were joined.
  private static let receiveBytes: Int32 = 4 << 20

  /// What the socket is, whoever has made it.
  package var kind: Descriptor.Kind {
    switch self {
    case .stream(let address, _): Descriptor.Kind(isIPv4: address.address.isIPv4, .listener)
    case .datagrams(let address): Descriptor.Kind(isIPv4: address.address.isIPv4, .datagrams)
    case .replies(let isIPv4): Descriptor.Kind(isIPv4: isIPv4, .rawDatagrams)
    }
  }

  /// Makes the socket in the network namespace of the calling thread; there it needs CAP_NET_ADMIN if it
  /// takes what is for others or has a mark, and CAP_NET_RAW for replies.
  /// - Parameters:
  ///   - mark: `SO_MARK` of what accepts or receives; nil: none.
  ///   - replyMark: the same of what sends replies.
  package func open(mark: UInt32?, replyMark: UInt32?) throws(Errno) -> Descriptor {
    switch self {
    case .stream(let address, let isTransparent):
      try StreamSocket.listen(on: address, .init(transparent: isTransparent, mark: mark))
    case .datagrams(let address):
      try DatagramSocket.openTransparent(
        on: address, .init(mark: mark, sharesPort: true, receiveBytes: Self.receiveBytes))
    case .replies(let isIPv4):
      try DatagramSocket.openRaw(isIPv4: isIPv4, mark: replyMark)
    }
  }
}
