package import Addressing
internal import LinuxIO

extension Upstream {
  /// Where a server listens.
  package enum Place: Hashable, Sendable {
    case address(SocketAddress)
    case socket(SocketPath)
    /// Its name is not known to lead anywhere yet.
    case nowhere
  }
}

extension Upstream.Place {
  /// How long a Unix socket with a full queue is left alone.
  static let pauseWhileFull = Timeout(milliseconds: 20)

  /// Starts to connect, without blocking: the connection is made, or has failed, when the socket becomes
  /// writable. Nil while the queue of a Unix socket is full; that there is room again can only be tried.
  /// - Parameters:
  ///   - mark: packet mark of a TCP connection (`SO_MARK`), its handshake included.
  ///   - tuning: of a TCP connection.
  func connect(
    mark: UInt32?, _ tuning: StreamSocket.Tuning? = nil
  ) throws(Errno) -> Descriptor? {
    switch self {
    case .address(let address):
      try StreamSocket.connect(to: address, mark: mark, speaksFirst: true, tuning)
    case .socket(let path): try LocalSocket.connect(to: path)
    case .nowhere: throw .hostUnreachable
    }
  }

  /// The control connection's address, as `RelayPlace` sees it: a server behind a Unix socket is on this
  /// host.
  var control: SocketAddress {
    switch self {
    case .address(let address): address
    case .socket, .nowhere: SocketAddress(.v4(.loopback), 0)
    }
  }

  /// What UDP ASSOCIATE asks for: zeros, since what will be sent comes from an address and port that
  /// neither side can know (RFC 1928, section 4).
  package var associationRequest: Endpoint {
    .address(SocketAddress(control.address.isIPv4 ? .v4(.any) : .v6(.any), 0))
  }

  /// Who listens there, as far as that can be seen on this host.
  var owner: SocketOwner? {
    switch self {
    case .address(let address): SocketOwner.listening(on: address)
    case .socket(let path): SocketOwner.listening(at: path)
    case .nowhere: nil
    }
  }
}

extension Upstream.Place: CustomStringConvertible {
  package var description: String {
    switch self {
    case .address(let address): "\(address)"
    case .socket(let path): "\(path)"
    case .nowhere: "nowhere"
    }
  }
}
