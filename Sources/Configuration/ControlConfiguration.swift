package import Addressing

/// Settings of the commands that talk to a run of this host.
package struct ControlConfiguration: Hashable, Sendable {
  /// Of its control socket.
  package let path: SocketPath

  /// - Parameter path: as it is written; nil: the usual one.
  package init(path: String?) throws(ConfigurationError) { self.path = try controlPath(path) }

  /// Seconds for open flows to end, 0 for none.
  package static func drainTimeout(_ value: Int?) throws(ConfigurationError) -> UInt32? {
    if value == 0 { return 0 }
    return try seconds(value, "--timeout")
  }
}
