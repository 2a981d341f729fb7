internal import Addressing
internal import LinuxIO

/// One TCP flow, from accept to close. The downstream speaks first in `.negotiating` when it came to
/// the embedded server; captured flows begin by connecting to the upstream, direct and forwarded
/// ones to their target. One that connects to a Unix socket whose queue is full has no upstream socket
/// meanwhile.
///
///     captured:                        connecting ──▶ handshaking ──┐
///     direct:                          connecting ──────────────────┤
///     forwarded:                       connecting ──────────────────┤
///                                          ▲                        ├──▶ relaying ──▶ vacant
///     served:   negotiating ─(name)─▶ resolving                     │
///                  │ │   └───(address)─────▶ connecting ────────────┘
///                  │ └─(refused)──▶ rejecting ──▶ vacant
///                  ├─(UDP ASSOCIATE)──▶ associated ──▶ vacant
///                  └─(BIND, after resolving a name)──▶ listening ──▶ relaying, or rejecting
///     exposed:  connecting ──▶ binding ──▶ awaiting ──(a peer)──▶ delivering ──▶ relaying
///
/// An exposed session connects to the upstream first, and to the local service, its downstream, when
/// somebody has come to the upstream's listener.
///
/// With several upstreams at once, `racing` stands in the place of `connecting` and `handshaking`, and the
/// session has no upstream socket before one of them has won. Through an upstream by GSSAPI, `protected` stands in the place of `relaying`.
///
/// Any state goes to vacant on failure, and the application then sees RST. A slot lives as long as
/// its worker; only its contents come and go, and its generation counts the tenants.
struct Session: ~Copyable {
  enum State: UInt8 {
    case vacant, connecting, racing, handshaking, negotiating, resolving, listening, relaying,
      protected
    case associated, rejecting, binding, awaiting, delivering
  }

  enum Origin {
    /// Captured by the rules; goes on through the upstream, or directly.
    case captured(OriginalDestination)
    /// A client of the embedded server; goes on to its target.
    case served
    /// Goes on to a fixed target, the first of which this is.
    case forwarded(to: SocketAddress, Forwarding)
    /// Comes from the upstream's listener (BIND), and goes to the local service.
    case exposed

    var isServed: Bool {
      switch self {
      case .captured, .forwarded, .exposed: false
      case .served: true
      }
    }
  }

  var state = State.vacant
  var origin = Origin.served
  /// In the worker's run queue: it yielded with work left.
  var isQueued = false
  /// Its peers are probed while they are silent.
  var isKeptAlive = false
  /// … and its half-closed downstream before long.
  var isKeptTracked = false
  /// Its downstream is a client of the embedded server on this host.
  var isLocalClient = false
  /// Which member of the group of upstreams it goes through, once it is relayed.
  var member: UInt8 = 0
  /// Which rule has decided over it.
  var rule = RuleNumber.none
  /// What it took from the accept to the relay.
  var setUpTime = SetUpTime()
  var generation: UInt32 = 0
  /// Index of the worker's `Negotiation` while there is one: up to the relay, and in `.protected`.
  var negotiation: Int32 = -1
  var downstreamReadiness: Readiness = []
  var upstreamReadiness: Readiness = []
  var downstream: Descriptor?
  var upstream: Descriptor?
  /// When its handshake was through; none once a byte has come back, and where there was no handshake. It
  /// stands here since there is room.
  var awaitsByteSince = ClockReading.Stamp.none
  /// What its downstream is the control connection of.
  var association: ServedAssociation?
  /// From the downstream to the upstream, and back.
  var upstreamward = HalfDuplex()
  var downstreamward = HalfDuplex()
  /// When it was accepted.
  var opened = Instant(milliseconds: 0)
  /// When bytes last moved.
  var lastActivity = Instant(milliseconds: 0)

  /// It is exposed and nobody has come yet: it is no flow of anybody's.
  var awaitsPeer: Bool {
    guard case .exposed = origin else { return false }
    return state == .connecting || state == .binding || state == .awaiting
  }
}
