internal import Addressing
internal import LinuxIO

/// Connections to fixed targets, past the upstream: from one network namespace into another.
extension Worker {
  func beginForwarding(
    _ socket: consuming Descriptor, to targets: [SocketAddress], _ forwarding: Forwarding
  ) {
    guard let first = targets.first else { preconditionFailure("a forward without a target") }
    guard let index = openSession(socket, origin: .forwarded(to: first, forwarding)) else { return }
    negotiation(of: index).candidates = targets.reversed()
    connectNext(index, after: nil)
  }

  /// Starts to connect to a target on the captured side. Without a socket from there nobody is there who
  /// could take the connection.
  func connectInside(to address: SocketAddress) throws(Errno) -> Descriptor {
    guard let socket = configuration.insideSocket?(address.address.isIPv4) else {
      throw .connectionRefused
    }
    try StreamSocket.connect(socket, to: address)
    return socket
  }
}
