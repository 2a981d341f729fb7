package import Addressing
package import SOCKS
internal import Synchronization

/// A server that captured flows go through, or a chain of them.
package final class Upstream: Sendable {
  private let currentPlace: Mutex<Place>
  private let healthRecord = Mutex<HealthRecord?>(nil)
  private let watchedHealth = Atomic<UInt8>(Health.unknown.rawValue)
  package let dialect: Dialect
  /// What of a flow its credentials tell.
  let attributes: Set<FlowAttribute>
  /// Those behind it, each asked for through the one before.
  package let further: [Hop]

  /// A server that another one connects us to.
  package struct Hop: Sendable {
    package let endpoint: Endpoint
    package let dialect: Dialect

    package init(at endpoint: Endpoint, _ dialect: Dialect) {
      self.endpoint = endpoint
      self.dialect = dialect
    }
  }

  /// Whether the upstream relays datagrams.
  package enum DatagramAbility: UInt8, Sendable, CaseIterable {
    /// Nobody has asked yet: the next one who wants to finds out.
    case unknown
    case relays
    /// For ever where the protocol has no datagrams.
    case refuses
  }

  /// Whether it lives, where somebody watches it beside a group.
  package enum Health: UInt8, Sendable {
    case unknown
    case up
    case down
  }

  /// Makes the steps of security contexts; nil without GSSAPI.
  let stepper: SecurityStepper?

  private let pipelines = Atomic<Bool>(false)
  private let ability: Atomic<UInt8>
  private let refusesV6: Atomic<Bool>
  private let dropsRest = Atomic<Bool>(false)
  private let takesEarly = Atomic<Bool>(false)
  private let isShortWay = Atomic<Bool>(false)
  private let relayIsControl = Atomic<Bool>(false)
  private let relayAnswered = Atomic<Bool>(false)

  package init(at place: Place, _ dialect: Dialect, before further: [Hop] = []) {
    currentPlace = Mutex(place)
    self.dialect = dialect
    attributes = further.reduce(into: dialect.attributes) { $0.formUnion($1.dialect.attributes) }
    self.further = further
    let dialects = [dialect] + further.map(\.dialect)
    hopWithoutDatagrams = dialects.firstIndex {
      !$0.hasDatagrams || $0.isProtected && !further.isEmpty
    }
    hasIPv6 = (further.last?.dialect ?? dialect).hasIPv6
    let datagrams: DatagramAbility = hopWithoutDatagrams == nil ? .unknown : .refuses
    stepper = dialects.contains(where: \.isProtected) ? SecurityStepper() : nil
    ability = Atomic(datagrams.rawValue)
    refusesV6 = Atomic(!hasIPv6)
  }

  /// Whether there is a way to ask for a relay of datagrams: of each hop, in a chain.
  package var hasDatagrams: Bool { hopWithoutDatagrams == nil }
  /// The first hop, counted from 0, whose protocol has no datagrams, or by GSSAPI none in a chain; nil if
  /// there is none.
  let hopWithoutDatagrams: Int?
  /// Whether IPv6 destinations can be asked for.
  package let hasIPv6: Bool

  package var hopCount: Int { 1 + further.count }

  /// What UDP ASSOCIATE asks the hop at an index for: zeros, since what will be sent comes from an address
  /// and port that neither side can know (RFC 1928, section 4).
  func associationRequest(atHop index: Int) -> Endpoint {
    guard index > 0 else { return place.associationRequest }
    if case .address(let address) = further[index - 1].endpoint, !address.address.isIPv4 {
      return .address(SocketAddress(.v6(.any), 0))
    }
    return .address(SocketAddress(.v4(.any), 0))
  }

  /// A SOCKS5 server.
  package convenience init(at place: Place, credentials: Credentials?) {
    self.init(at: place, .socks5(credentials))
  }

  /// Of the only server, or the first; new connections go there.
  package var place: Place { currentPlace.withLock { $0 } }

  /// It is found somewhere else from now on, where nothing is proved of it yet.
  package func move(to place: Place) {
    currentPlace.withLock { $0 = place }
    isPipelined = false
    takesEarlyData = false
    isNear = false
  }

  /// The same somewhere else, to be asked there.
  package func moved(to place: Place) -> Upstream {
    Upstream(at: place, dialect, before: further)
  }

  /// Whether the handshake goes out in one write: that of the first, in a chain. False until it is proved,
  /// and again after a flow has failed in a way that speaks against the proof.
  var mode: ClientHandshake.Mode { isPipelined ? .pipelined : .stepwise }

  /// Whether it has been proved that the handshake can go out in one write.
  package var isPipelined: Bool {
    get { pipelines.load(ordering: .relaxed) }
    set { pipelines.store(newValue, ordering: .relaxed) }
  }

  /// What came of asking last whether it lives; nil if nobody has.
  package internal(set) var lastProbe: HealthRecord? {
    get { healthRecord.withLock { $0 } }
    set { healthRecord.withLock { $0 = newValue } }
  }

  /// Of one that is the only one.
  package var health: Health {
    get { Health(rawValue: watchedHealth.load(ordering: .relaxed)) ?? .unknown }
    set { watchedHealth.store(newValue.rawValue, ordering: .relaxed) }
  }

  /// Whether what goes out before its reply arrives: with the request, and with the handshake where that is
  /// pipelined. False until it is proved, and again when there is reason to doubt it.
  package var takesEarlyData: Bool {
    get { takesEarly.load(ordering: .relaxed) }
    set { takesEarly.store(newValue, ordering: .relaxed) }
  }

  package var datagramAbility: DatagramAbility {
    get { DatagramAbility(rawValue: ability.load(ordering: .relaxed)) ?? .unknown }
    set { ability.store(newValue.rawValue, ordering: .relaxed) }
  }

  /// Whether the upstream takes IPv6 targets; true until it has been found not to, and
  /// never where the protocol has none.
  package var carriesIPv6: Bool {
    get { !refusesV6.load(ordering: .relaxed) }
    set { refusesV6.store(!newValue, ordering: .relaxed) }
  }

  /// Whether the upstream drops the rest of an answer when it hears that a client has stopped sending;
  /// false until it has been found to.
  package var dropsAnswers: Bool {
    get { dropsRest.load(ordering: .relaxed) }
    set { dropsRest.store(newValue, ordering: .relaxed) }
  }

  /// Whether the way to it is so short that new connections begin without pacing; false until a stream has
  /// found it so.
  var isNear: Bool {
    get { isShortWay.load(ordering: .relaxed) }
    set { isShortWay.store(newValue, ordering: .relaxed) }
  }

  /// Whether the relay is looked for at the control connection's address though the upstream reports
  /// another one that can be right.
  var relayIsAtControlAddress: Bool {
    get { relayIsControl.load(ordering: .relaxed) }
    set { relayIsControl.store(newValue, ordering: .relaxed) }
  }

  /// Whether anything has ever come back from the relay.
  var hasRelayAnswered: Bool {
    get { relayAnswered.load(ordering: .relaxed) }
    set { relayAnswered.store(newValue, ordering: .relaxed) }
  }
}
