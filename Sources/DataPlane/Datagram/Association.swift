internal import Addressing
internal import LinuxIO

/// All that one client endpoint sends and receives as UDP through one set of upstreams, whomever it talks to
/// (endpoint-independent mapping and filtering, RFC 4787): one UDP ASSOCIATE with its control connection, and one socket
/// connected to the upstream's relay.
///
///     connecting ──▶ handshaking ──▶ open ──▶ vacant
///
/// Through a chain of upstreams it has a control connection with each hop (`NestedAssociation`), and none
/// of its own. One that connects to a Unix socket whose queue is full has no control connection meanwhile. What the
/// client sends before it is open waits. It ends when its control connection does, when it has
/// been idle for too long, or when another one needs its place.
struct Association: ~Copyable, Slot {
  enum State: UInt8 { case vacant, connecting, handshaking, open }

  var state = State.vacant
  /// Something has come back.
  var isReplied = false
  /// Nothing but DNS queries has been sent.
  var isDNS = true
  /// The relay may be at another address than the one that is used.
  var isRelayUncertain = false
  /// Which member of the group of upstreams it is with.
  var member: UInt8 = 0
  /// Taken for it out of the budget.
  var descriptorCount: UInt8 = 0
  /// Those of the group that its datagrams may go through.
  var members = MemberSet()
  /// Which rule has decided over the first of them.
  var rule = RuleNumber.none
  var generation: UInt32 = 0
  /// Index of the worker's `Negotiation` while there is one: up to the handshake's end, and longer where
  /// GSSAPI protects the datagrams.
  var negotiation: Int32 = -1
  /// Index of the share of its client's address.
  var share: Int32 = -1
  /// First and last of its datagrams in the batch that is being forwarded, -1 if there are none.
  var firstArrival: Int32 = -1
  var lastArrival: Int32 = -1
  var relayLimit = SegmentLimit()
  var controlReadiness: Readiness = []
  var client = SocketAddress(.v4(.any), 0)
  var control: Descriptor?
  /// What it has through a chain; nil with a lone upstream.
  var nested: NestedAssociation?
  var relay: Descriptor?
  /// Where its first datagram went.
  var destination = SocketAddress(.v4(.any), 0)
  var opened = Instant(milliseconds: 0)
  /// Bytes of payload to the relay, and from it.
  var sent: UInt64 = 0
  var received: UInt64 = 0
  /// When a datagram last went either way.
  var lastActivity = Instant(milliseconds: 0)
  var waiting = WaitingDatagrams()
  var traffic = AssociationTraffic()
  /// DNS queries that have not been answered, the newest last.
  var queries: [PendingQuery] = []

  /// What waits, which is then gone from here.
  mutating func takeWaiting() -> WaitingDatagrams {
    var taken = WaitingDatagrams()
    swap(&taken, &waiting)
    return taken
  }
}
