package import Addressing

/// Settings of the commands that talk to a run of this host.
package struct ControlConfiguration: Hashable, Sendable {
  /// Of its control socket.
  package let path: SocketPath

  /// - Parameter path: as it is written; nil: the usual one.
  package init(path: String?) throws(ConfigurationError) { self.path = try controlPath(path) }
}
