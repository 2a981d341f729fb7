/// Why a datagram went no further; counted by `name`.
package enum DatagramDrop: Int, Error, CaseIterable, Sendable {
  /// A SOCKS header says that it is a part of a larger one.
  case fragmented
  /// A SOCKS header that is truncated, or has an address that nobody understands.
  case malformed
  /// With its header it is larger than a datagram can be.
  case tooLarge
  /// Too many wait for their association, or for a name.
  case queueFull
  /// The upstream takes no datagrams, or the association failed.
  case noAssociation
  /// An answer from an IPv6 address for an IPv4 client, or the other way round; or it goes to an address
  /// of a family that this host lacks.
  case wrongFamily
  /// It comes from an address that it cannot come from, or from somebody who is not the client.
  case sourceNotAllowed
  /// The embedded server's rules forbid its destination.
  case forbidden
  /// A rule of the user's has it.
  case rejectedByRule
  /// Its association gave way to another one, or ended while it was waiting.
  case evicted
  /// The kernel did not take it, or its destination has no address.
  case unsent
  /// It was sent to the listener itself.
  case loop
  /// More came than could be taken: the listener's queue was full.
  case listenerFull

  /// As metrics and the status show it.
  package var name: String {
    switch self {
    case .fragmented: "fragmented"
    case .malformed: "malformed"
    case .tooLarge: "too_large"
    case .queueFull: "queue_full"
    case .noAssociation: "no_association"
    case .wrongFamily: "wrong_family"
    case .sourceNotAllowed: "source_not_allowed"
    case .forbidden: "forbidden"
    case .rejectedByRule: "rejected_by_rule"
    case .evicted: "evicted"
    case .unsent: "unsent"
    case .loop: "loop"
    case .listenerFull: "listener_full"
    }
  }
}
