internal import Addressing

/// What the rules of the embedded server say of one client's destinations.
extension Worker {
  func verdict(on destination: Endpoint) -> ServerAccess.Verdict {
    switch destination {
    case .address: .undecided
    case .name(let name, let port): configuration.access.verdict(on: name, port: port)
    }
  }

  /// Whether a client may reach an address, which belongs to `name` if it was found by one.
  func permits(_ target: SocketAddress, of name: Endpoint? = nil, for index: Int) -> Bool {
    configuration.access.permits(
      target, isNamed: name.map { verdict(on: $0) == .allowed } ?? false,
      isLocalClient: sessions[index].pointee.isLocalClient)
  }
}
