package import Addressing
package import LinuxIO
package import SOCKS

/// How long a session may wait; every timeout has its own reason and its own counter.
package struct Timeouts: Sendable {
  /// TCP connection to the upstream, or from the embedded server to a target.
  package var connect = Timeout.seconds(10)
  /// The SOCKS handshake. The upstream connects to the target meanwhile, which takes it up to two
  /// minutes on a Linux host with its default of six SYN retries; most applications give up earlier.
  package var handshake = Timeout.seconds(60)
  /// The peer of a BIND of the embedded server. SOCKS4 names two minutes.
  package var peer = Timeout.seconds(120)
  /// No byte either way, and no datagram of an association of the embedded server. RFC 5382,
  /// section 5: at least 2 h 4 min for an established connection.
  package var idle = Timeout.seconds(7440)
  /// No byte after one side has ended. RFC 5382, section 5: at least 4 minutes.
  package var halfClose = Timeout.seconds(600)
  /// No datagram either way, for a client that has had an answer. RFC 4787, section 4.3: at least
  /// 2 minutes.
  package var datagrams = Timeout.seconds(180)
  /// The same for one that has not had any.
  package var unreplied = Timeout.seconds(30)
  /// The same for one that sends nothing but DNS queries; and how long such a query may take.
  package var dns = Timeout.seconds(10)

  package init() {}
}

/// What the upstream hears when the downstream stops sending and still wants the answer.
package enum HalfClose: Sendable {
  /// The same, as if nobody were in between.
  case propagate
  /// Nothing until it has ended itself, for one that would drop the rest of the answer.
  case hold
  /// As `Upstream.dropsAnswers` has it, when the downstream stops.
  case automatic
}

/// Whether what the application has said goes out behind the request, before the reply.
package enum EarlyData: Sendable {
  case off
  case on
  /// As `Upstream.takesEarlyData` has it.
  case automatic
}

/// How DNS queries are carried.
package enum DNSTransport: Hashable, Sendable {
  /// Like any other datagram.
  case ordinary
  /// As datagrams; over TCP if the upstream does not relay any, or the resolver is silent.
  case automatic
  case datagrams
  /// Over TCP.
  case stream
}

/// How captured datagrams are carried.
package struct DatagramConfiguration: Sendable {
  /// Where to receive them; every worker opens a socket of its own there.
  package var listeners: [SocketAddress]
  /// Mark of the answers, which leave in the name of other hosts; nil without CAP_NET_ADMIN.
  package var replyMark: UInt32?
  package var relayPlace = RelayPlace.automatic
  /// Associations of all workers together, and of one client address.
  package var maximumAssociations = 8192
  package var maximumAssociationsPerClient = 1024
  package var dns = DNSTransport.automatic
  /// Whom to ask instead of the resolver that a client asks, by connections as well; nil: that one.
  package var resolver: SocketAddress?

  package init(listeners: [SocketAddress]) { self.listeners = listeners }
}

/// How the program is found that has a captured flow's socket, where the upstream's credentials tell of
/// it.
package enum FlowOwners: Sendable {
  /// Not at all.
  case unknown
  /// By its socket, which is of this process's network namespace.
  case bySocket
  /// All are of one.
  case fixed(FlowIdentity.Owner)
}

/// All that the data plane needs to know, validated.
package struct DataPlaneConfiguration: Sendable {
  package var workers: Int
  /// What the workers' numbers begin with in the identifiers of flows.
  package var firstWorker = 0
  package var listeners: [ListenerConfiguration]
  /// Where captured flows go; nil if there are none to capture.
  package var group: UpstreamGroup?
  /// Which captured flows take which way; nil: all go through the group's standard members.
  package var policy: Policy?
  /// Connections that are kept ready with each upstream at most, over all workers.
  package var pooledConnections = 0
  package var earlyData = EarlyData.off
  /// Of connections to upstreams; nil: as the system has them.
  package var tuning: StreamSocket.Tuning?
  /// Captured connections go straight to their destinations, and only datagrams and queries through the
  /// upstream.
  package var connectsDirectly = false
  /// Of which the embedded server's clients must show one; nil for no authentication.
  package var serverLogins: Logins?
  /// The embedded server takes UDP ASSOCIATE.
  package var servesDatagrams = true
  /// It takes BIND.
  package var servesListeners = true
  /// Who may use it, and to reach what.
  package var access = ServerAccess()
  /// Mark of every socket (`SO_MARK`) that is opened here, nil without CAP_NET_ADMIN.
  package var mark: UInt32?
  /// All sockets of the captured side, where others have opened them; nil: they are opened here.
  package var handedSockets: HandedSockets?
  /// The embedded server's listening sockets, a copy of each for every worker, where somebody else has
  /// opened them; nil: they are opened here.
  package var servingSockets: HandedSockets?
  /// Listeners of which a single worker has the only socket, which is among the handed ones.
  package var furtherListeners: [ListenerConfiguration] = []
  /// A socket of the captured side for a connection to a target there (`StreamSocket.open`), where
  /// connections are forwarded inward; nil: the connection is refused. It may block as long as asking
  /// another process takes.
  package var insideSocket: (@Sendable (_ isIPv4: Bool) -> Descriptor?)?
  /// Look whether captured traffic comes back to us. It cannot where all that is captured is a network
  /// namespace that we are not in.
  package var detectsLoops = true
  package var owners = FlowOwners.unknown
  package var timeouts = Timeouts()
  package var healthChecks = HealthChecks()
  /// Of captured connections; those of the embedded server's clients are always propagated.
  package var halfClose = HalfClose.propagate
  /// Descriptors that the process may have open.
  package var descriptorLimit: Int
  /// What is published through the upstream; nil: nothing. It is the first worker's alone.
  package var exposure: Exposure?
  /// The embedded server is the upstream of the captured flows.
  package var servesItself = false
  /// Where flows are recorded when they end; nil: nowhere.
  package var audit: Audit?
  /// Where names of addresses are learnt; nil: nowhere.
  package var names: NameBook?
  /// Nil: no datagrams are captured.
  package var datagrams: DatagramConfiguration?

  package init(workers: Int, listeners: [ListenerConfiguration], descriptorLimit: Int) {
    self.workers = workers
    self.listeners = listeners
    self.descriptorLimit = descriptorLimit
  }

  /// The same where there is but one.
  package var upstream: Upstream? {
    get { group?.members.first }
    set { group = newValue.map(UpstreamGroup.init) }
  }

  /// The sockets that all workers together need on the captured side, in the order in which they are
  /// handed over.
  package var ingressSockets: [IngressSocket] {
    let streams = listeners.compactMap(\.ingressSocket).flatMap { socket in
      repeatElement(socket, count: workers)
    }
    let datagrams = (datagrams?.listeners ?? []).flatMap { address in
      [IngressSocket.datagrams(address), .replies(isIPv4: address.address.isIPv4)]
    }
    return streams + repeatElement(datagrams, count: datagramWorkers).joined()
  }

  /// The next of the handed sockets of this kind, or one that is opened here.
  func obtain(_ socket: IngressSocket) throws(Errno) -> Descriptor {
    if let handedSockets { return handedSockets.take(socket) }
    return try socket.open(mark: mark, replyMark: datagrams?.replyMark)
  }

  /// Half of the workers take datagrams: with all of them a gateway of two processors carried half as
  /// many, at twice the cost, since each was woken for a few and had no two of one client to send
  /// together.
  var datagramWorkers: Int { (workers + 1) / 2 }

  /// Associations of all workers together: as many as the user wants, but they use half of the
  /// descriptors at most, so that some are left for connections.
  var associations: Int {
    // The embedded server has four for the other half.
    let each = descriptorsPerAssociation + (servesItself ? 4 : 0)
    return min(datagrams?.maximumAssociations ?? 0, sessionDescriptors / 2 / each)
  }

  /// An association's control connection, of which there is one with each hop of a chain, and its socket
  /// to the relay.
  var descriptorsPerAssociation: Int { (group?.mostHops ?? 1) + 1 }

  /// What is left of the limit for sessions and pipes: each worker has an epoll, a mailbox and its
  /// listeners, and the rest of the program (netlink, signals, look-ups, log) some of its own.
  var sessionDescriptors: Int {
    max(
      descriptorLimit - 64 - workers * (4 + listeners.count + (datagrams?.listeners.count ?? 0)), 16
    )
  }
}
