package import Addressing

/// What is known of a flow at a moment.
package struct FlowSnapshot: Hashable, Sendable {
  package enum Stage: String, Hashable, Sendable, CaseIterable {
    /// On its way to the upstream, or past it.
    case opening
    case open
    /// One side has ended.
    case halfClosed = "half-closed"
  }

  package let identifier: FlowIdentifier
  package let stage: Stage
  /// Nil for a connection whose client has just gone.
  package let client: SocketAddress?
  /// Of datagrams, of which a client may send to many, that of the first.
  package let destination: Endpoint?
  /// That the destination's address was last looked up by; nil if it is not known.
  package internal(set) var name: String?
  /// Which of the group of upstreams it goes through; nil for what goes directly.
  package let member: Int?
  /// Which rule has decided over it, by name; nil if none has.
  package let rule: String?
  /// Since it was accepted, and since something last moved; the latter is nil before it is open.
  package let ageMilliseconds: UInt64
  package let idleMilliseconds: UInt64?
  /// From there to its being open; nil before that, and of datagrams.
  package let setUpMilliseconds: UInt64?
  /// Bytes of payload from the client, as far as this host has got them, and to it, as far as it has
  /// acknowledged them; those of datagrams to and from the relay.
  package let sent: UInt64
  package let received: UInt64
}
