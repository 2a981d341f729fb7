package import Addressing

/// Where metrics are shown: a place that nobody on another host reaches.
package enum MetricsPlace: Hashable, Sendable {
  case file(SocketPath)
  /// A loopback one.
  case address(SocketAddress)

  /// Parses `unix:PATH`, `127.0.0.1:PORT` and `[::1]:PORT`.
  package init(_ text: String) throws(ConfigurationError) {
    let scheme = "unix:"
    if text.hasPrefix(scheme) {
      guard let path = SocketPath(Array(text.dropFirst(scheme.count).utf8)) else {
        throw ConfigurationError(
          "--metrics \(text): expected an absolute path of at most \(SocketPath.maximumBytes) bytes "
            + "behind \(scheme)")
      }
      self = .file(path)
      return
    }
    guard let address = SocketAddress(text), address.port > 0 else {
      throw ConfigurationError(
        "--metrics \(text): expected unix:PATH, 127.0.0.1:PORT or [::1]:PORT")
    }
    guard address.address.isLoopback else {
      throw ConfigurationError(
        "--metrics \(text): other hosts could read there what this one does: expected unix:PATH, "
          + "127.0.0.1:PORT or [::1]:PORT")
    }
    self = .address(address)
  }
}

extension MetricsPlace: CustomStringConvertible {
  package var description: String {
    switch self {
    case .file(let path): "unix:\(path)"
    case .address(let address): "\(address)"
    }
  }
}
