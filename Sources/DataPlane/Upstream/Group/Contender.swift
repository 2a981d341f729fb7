internal import LinuxIO

/// One of the connections with which upstreams race for a session.
struct Contender: ~Copyable, Slot {
  var generation: UInt32 = 0
  /// The session's index; -1 in a vacant slot.
  var session: Int32 = -1
  /// Index of its own negotiation.
  var negotiation: Int32 = -1
  /// It is connected.
  var isHandshaking = false
  var readiness: Readiness = []
  var socket: Descriptor?
}
