/// `socket transparent 1`: a socket with IP_TRANSPARENT that this packet would be given to exists on
/// this host. A packet of another protocol than TCP and UDP never matches.
package enum SocketMatch: Hashable, Sendable, CustomStringConvertible {
  case transparent

  package var description: String { "socket transparent 1" }
}
