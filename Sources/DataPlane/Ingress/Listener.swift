package import Addressing
internal import LinuxIO

/// How connections come to a listener, and so how their destination is recovered.
package enum Ingress: Sendable {
  /// By the `redirect` statement: `SO_ORIGINAL_DST`.
  case redirect
  /// By the `tproxy` statement: the local address of the accepted socket.
  case tproxy
  /// By clients of the embedded SOCKS5 server, who say it themselves.
  case socks
  /// By clients that connect to it for the sake of a target behind it: the first of these that takes the
  /// connection. There is at least one.
  case forward(to: [SocketAddress], Forwarding)

  /// Whether it is the embedded server's.
  var isServing: Bool {
    switch self {
    case .socks: true
    case .redirect, .tproxy, .forward: false
    }
  }

  /// Whether connections come to it that were meant for others.
  var isCapturing: Bool {
    switch self {
    case .redirect, .tproxy: true
    case .socks, .forward: false
    }
  }
}

/// Between which sides connections are forwarded, past the upstream.
package enum Forwarding: Sendable {
  /// From the captured side, to targets that we reach ourselves.
  case outward
  /// From our side, to targets on the captured one: `DataPlaneConfiguration.insideSocket`.
  case inward
}

/// Where to listen; every worker opens a socket of its own there.
package struct ListenerConfiguration: Sendable {
  package let ingress: Ingress
  package let address: SocketAddress

  package init(_ ingress: Ingress, on address: SocketAddress) {
    self.ingress = ingress
    self.address = address
  }
}

extension ListenerConfiguration {
  /// What each worker has of it on the captured side; nil if it is not there.
  package var ingressSocket: IngressSocket? {
    switch ingress {
    case .redirect: .stream(address, isTransparent: false)
    case .tproxy: .stream(address, isTransparent: true)
    case .forward(to: _, .outward): .stream(address, isTransparent: false)
    case .socks, .forward(to: _, .inward): nil
    }
  }
}

/// A worker's share of a listener.
final class Listener {
  let ingress: Ingress
  let socket: Descriptor
  /// With the port that the kernel chose, where the configuration left it open.
  let address: SocketAddress
  /// Other workers wait for connections of the same socket.
  let isShared: Bool

  init(
    _ ingress: Ingress, _ socket: consuming Descriptor, isShared: Bool
  ) throws(Errno) {
    guard let address = socket.localAddress else { throw .familyNotSupported }
    self.ingress = ingress
    self.socket = socket
    self.address = address
    self.isShared = isShared
  }

  /// Where a connection that came to this listener wanted to go.
  func destination(of connection: borrowing Descriptor) throws(Errno) -> OriginalDestination {
    switch ingress {
    case .redirect: try connection.redirectedDestination(isIPv4: address.address.isIPv4)
    case .tproxy: try connection.transparentDestination()
    case .socks, .forward: preconditionFailure("nothing says where they wanted to go")
    }
  }

  /// Whether the connection was made to the listener itself: nothing redirected it. `redirect` then
  /// gives the listener's own address, whichever of the host's addresses that was.
  func isDirect(_ destination: OriginalDestination, of connection: borrowing Descriptor) -> Bool {
    destination.address.port == address.port
      && (destination.address == address || destination.address == connection.localAddress)
  }
}
