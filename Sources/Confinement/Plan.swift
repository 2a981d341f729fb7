package import Addressing

/// What a program is to be run in: network and mount namespaces of its own, and what they have.
package struct Plan: Sendable {
  /// What gives the power to make them.
  package enum Isolation: Hashable, Sendable {
    /// A user namespace, for whoever has no privilege.
    case user
    /// CAP_SYS_ADMIN and CAP_NET_ADMIN, which the program does not keep. Other users exist there.
    case privileged
  }

  package var isolation: Isolation
  /// Of the host that the namespace is: one of each family that it shall have.
  package var addresses: [IPAddress]
  /// Directories that are empty for the program, as far as they exist: sockets in them lead to services
  /// that would do for it what it cannot do itself.
  package var coveredDirectories: [String] = []
  /// Files, and sockets, that lead to nothing for the program, as far as they exist.
  package var coveredFiles: [String] = []
  /// What `/etc/resolv.conf` says for the program; nil: what it says outside.
  package var resolverFile: String?
  /// The program, searched for in PATH, and its arguments; not empty.
  package var command: [String]
  /// Set in its environment.
  package var environment: [String: String] = [:]
  /// Descriptors that it inherits beside standard input, output and errors: so many from 3 on.
  package var preservedDescriptors: Int32 = 0
  /// Whether it finds the end of its children ignored (SIGCHLD).
  package var ignoresChildren = false
  /// Whether sockets are to be had from the namespace as long as it is there.
  package var suppliesSockets = false

  package init(_ isolation: Isolation, addresses: [IPAddress], command: [String]) {
    precondition(!command.isEmpty)
    self.isolation = isolation
    self.addresses = addresses
    self.command = command
  }

  /// Of the namespace's host: what a device that translates addresses for itself has (RFC 7335), and a
  /// unique local one (RFC 4193), so that names that have addresses of both families are reached by IPv4
  /// first (RFC 6724), which more upstreams can carry.
  package static let addressV4 = IPAddress.v4(IPv4Address(bits: 0xC000_0002))
  package static let addressV6 = IPAddress.v6(
    IPv6Address(high: 0xFD73_6C75_6963_0065, low: 1))
}
