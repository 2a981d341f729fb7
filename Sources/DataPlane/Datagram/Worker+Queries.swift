internal import Addressing
internal import LinuxIO

/// A DNS query that was sent as a datagram and has not been answered.
struct PendingQuery {
  let id: UInt16
  /// Whom the client has asked, and from whom the answer must come.
  let asked: SocketAddress
  /// Who was asked.
  let resolver: SocketAddress
  let message: [UInt8]
  let since: Instant
}

/// What has been found out about a resolver that is asked through the upstream's relay.
enum ResolverState {
  case answers
  /// It has not answered datagrams; until then it is asked over TCP.
  case silent(until: Instant)
}

/// DNS queries among the captured datagrams: to which resolver, and in which way.
extension Worker {
  /// How long a datagram may go unanswered before its query is sent over TCP as well.
  static let patience = Timeout.seconds(2)
  /// How long a resolver that is silent is asked over TCP alone.
  private static let silence = Timeout.seconds(300)
  /// Queries of one client that may be pending.
  private static let maximumPending = 32
  /// A query is hardly ever larger: one that is does not get a second chance.
  private static let maximumQueryBytes = 1232
  /// Resolvers that are remembered.
  static let maximumResolvers = 256
  /// Header of a message (RFC 1035, section 4.1.1).
  private static let headerBytes = 12

  func resolver(insteadOf destination: SocketAddress) -> SocketAddress {
    configuration.datagrams?.resolver ?? destination
  }

  /// Whether a query to this destination goes over TCP.
  func carriesOverStream(_ destination: SocketAddress) -> Bool {
    switch configuration.datagrams?.dns {
    case .ordinary, .datagrams, nil: return false
    case .stream: return true
    case .automatic:
      if let group = configuration.group, group.datagramAbility(of: group.standard) == .refuses {
        return true
      }
      guard !datagrams.resolvers.isEmpty,
        case .silent(let until) = datagrams.resolvers[resolver(insteadOf: destination)]
      else { return false }
      return now < until
    }
  }

  /// Whether a query goes over TCP where there is no association for it.
  var mayCarryOverStream: Bool {
    switch configuration.datagrams?.dns {
    case .stream, .automatic: true
    case .ordinary, .datagrams, nil: false
    }
  }

  /// Gives a query to the worker that carries them over TCP.
  func handOver(
    _ query: UnsafeRawBufferPointer, from client: SocketAddress, to destination: SocketAddress
  ) {
    carryQuery(
      CapturedQuery(
        client: client, destination: destination, resolver: resolver(insteadOf: destination),
        message: Array(query)))
  }

  /// Remembers a query that is about to be sent as a datagram.
  func noteQuery(
    _ query: UnsafeRawBufferPointer, to destination: SocketAddress, of index: Int
  ) {
    guard (Self.headerBytes...Self.maximumQueryBytes).contains(query.count) else { return }
    let association = datagrams.associations.slots[index]
    if association.pointee.queries.count == Self.maximumPending {
      association.pointee.queries.removeFirst()
    }
    association.pointee.queries.append(
      PendingQuery(
        id: query.messageID, asked: destination, resolver: resolver(insteadOf: destination),
        message: Array(query), since: now))
    if association.pointee.queries.count == 1, configuration.datagrams?.dns == .automatic {
      datagrams.timers.schedule(index, at: now + Self.patience)
    }
  }

  /// From where the client expects an answer that came from `source`; nil if it is to no query of its.
  func sourceOfAnswer(
    _ answer: UnsafeRawBufferPointer, from source: SocketAddress,
    of association: UnsafeMutablePointer<Association>
  ) -> SocketAddress? {
    guard answer.count >= Self.headerBytes,
      let index = association.pointee.queries.firstIndex(where: {
        $0.id == answer.messageID && $0.resolver == source
      })
    else { return nil }
    remember(source, .answers)
    return association.pointee.queries.remove(at: index).asked
  }

  /// Sends over TCP what was sent as datagrams up to this moment and not answered.
  /// - Parameter blames: whether that speaks against the resolver.
  func rescueQueries(
    of association: UnsafeMutablePointer<Association>, sentUpTo time: Instant, blames: Bool = true
  ) {
    guard configuration.datagrams?.dns == .automatic else { return }
    while let query = association.pointee.queries.first, query.since <= time {
      association.pointee.queries.removeFirst()
      switch datagrams.resolvers[query.resolver] {
      case .answers: break
      case .silent, nil:
        if blames { remember(query.resolver, .silent(until: now + Self.silence)) }
      }
      query.message.withUnsafeBytes {
        handOver($0, from: association.pointee.client, to: query.asked)
      }
    }
  }

  /// When an association is to be looked at again.
  func nextDeadline(of association: UnsafeMutablePointer<Association>, idle: Instant) -> Instant {
    guard configuration.datagrams?.dns == .automatic,
      let query = association.pointee.queries.first
    else { return idle }
    return min(idle, query.since + Self.patience)
  }

  private func remember(_ resolver: SocketAddress, _ state: ResolverState) {
    if datagrams.resolvers.count == Self.maximumResolvers { datagrams.resolvers = [:] }
    datagrams.resolvers[resolver] = state
  }
}

extension UnsafeRawBufferPointer {
  /// The identifier of a DNS message of at least two bytes, as it stands in memory.
  fileprivate var messageID: UInt16 { loadUnaligned(as: UInt16.self) }
}
