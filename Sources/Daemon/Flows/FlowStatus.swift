/// What a run says of one of its flows, as docs/control.md and docs/flows.schema.json describe it: a member of
/// the answer to `flows`. Nothing in it is secret, and no text has a control character.
struct FlowStatus: Hashable, Codable {
  enum Scope: String, Codable {
    /// A program of this host's.
    case machine
    /// Somebody else's.
    case gateway
  }

  /// Who has the client's socket, of this host's.
  struct Program: Hashable, Codable {
    var uid: UInt32
    /// Nil where the run may not look at processes, or the socket has gone over to none.
    var pid: Int32?
    /// Last component of the executable's path.
    var name: String?
  }

  /// Tells it from all flows that were and will be.
  var id: String
  /// "tcp" or "udp".
  var `protocol`: String
  /// "opening", "open" or "half-closed".
  var stage: String
  /// Nil for what has no client any more.
  var scope: Scope?
  var client: String?
  var program: Program?
  var destination: String?
  /// That the destination's address was last looked up by.
  var name: String?
  /// As people call it: without the password. Nil for what goes directly, or has none yet.
  var upstream: String?
  /// Which rule has decided over it.
  var rule: String?
  /// Seconds since it began, since something last moved, and from its beginning to its being open.
  var age: Double
  var idle: Double?
  var setup: Double?
  /// Bytes of payload from the client, and to it.
  var sent: UInt64
  var received: UInt64
}

/// The answer to `flows`.
struct FlowList: Hashable, ControlMessage {
  var flows: [FlowStatus]
  /// How many more there are.
  var omitted: Int
}
