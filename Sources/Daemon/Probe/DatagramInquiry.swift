internal import Addressing
internal import DataPlane
internal import LinuxIO
internal import SOCKS

/// What an upstream does with datagrams.
struct DatagramFinding: Hashable, Sendable {
  /// Whether a resolver's answer comes back.
  var relay: Ability
  var mapping = Mapping.unknown

  /// How the upstream is seen by those to whom one association sends (RFC 4787, section 4.1).
  enum Mapping: String, Hashable, Sendable {
    /// By one address and port for all, so that others can be told of it.
    case endpointIndependent = "endpoint_independent"
    /// Each target sees another.
    case endpointDependent = "endpoint_dependent"
    case unknown

    /// - Parameter sources: that targets have seen, one of each; nil where nothing arrived.
    init(_ sources: [SocketAddress?]) {
      let seen = sources.compactMap(\.self)
      if seen.count < 2 || seen.count < sources.count {
        self = .unknown
      } else {
        self = Set(seen).count == 1 ? .endpointIndependent : .endpointDependent
      }
    }
  }
}

enum DatagramInquiry {
  /// How long targets of our own wait for a datagram, in all.
  private static let arrivalPatience = Timeout(milliseconds: 700)
  /// How often one is sent to each, since datagrams may be lost.
  private static let copies = 3

  /// Blocks up to the deadline.
  static func run(
    _ upstream: Upstream, resolver: SocketAddress, until deadline: Instant
  ) -> DatagramFinding {
    guard upstream.hasDatagrams else { return DatagramFinding(relay: Ability(.notOffered)) }
    guard upstream.further.isEmpty else {
      return DatagramFinding(relay: Ability(.unknown, "not tried through a chain"))
    }
    let connection: ProbeConnection
    let association: ProbeAssociation?
    do {
      connection = try ProbeConnection(to: upstream, mark: nil, deadline: deadline)
      let outcome = connection.request(
        .udpAssociate, to: upstream.place.associationRequest, mode: .stepwise)
      if let refusal = Refusal(outcome, connection.failure) {
        return DatagramFinding(relay: Ability(refusal: refusal))
      }
      association = try ProbeAssociation(connection)
    } catch {
      return DatagramFinding(relay: Ability(.unknown, "\(error)"))
    }
    guard let association else {
      return DatagramFinding(relay: Ability(.noAnswer, "granted without a port"))
    }
    let question = ResolverQuestion()
    let start = ContinuousClock.now
    // What is left is for the other question.
    let isAnswered = association.ask(
      question.message, at: resolver, until: deadline - arrivalPatience,
      isAnswer: question.isAnswered)
    let microseconds = start.microsecondsToNow
    var relay =
      isAnswered
      ? Ability(.works, microseconds: microseconds)
      : Ability(.noAnswer, "granted, but the resolver did not answer")
    relay.target = .address(resolver)
    return DatagramFinding(
      relay: relay, mapping: mapping(of: association, near: connection.localAddress))
  }

  /// By targets of our own, at the address where the upstream sees us.
  private static func mapping(
    of association: ProbeAssociation, near address: IPAddress
  ) -> DatagramFinding.Mapping {
    // On the loopback there is another address for the second.
    let other = address == .v4(.loopback) ? IPAddress("127.0.0.2") ?? address : address
    guard let first = try? DatagramSocket.bind(to: SocketAddress(address, 0), .init()),
      let second = try? DatagramSocket.bind(to: SocketAddress(other, 0), .init()),
      let firstPlace = first.localAddress, let secondPlace = second.localAddress
    else { return .unknown }
    // Whoever else sends here does not know it.
    let token = System.randomBytes(16)
    for _ in 0..<copies {
      association.send(token, to: firstPlace)
      association.send(token, to: secondPlace)
    }
    let deadline = Instant.now() + arrivalPatience
    return DatagramFinding.Mapping([
      source(of: token, at: first, until: deadline), source(of: token, at: second, until: deadline),
    ])
  }

  private static func source(
    of token: [UInt8], at socket: borrowing Descriptor, until deadline: Instant
  ) -> SocketAddress? {
    var reader = DatagramReader()
    while socket.wait(for: .readable, until: deadline) {
      guard case .slots(let count, _) = reader.receive(from: socket.rawValue, into: 0..<1) else {
        continue
      }
      for slot in 0..<count {
        let received = reader.received(at: slot)
        // The kernel may have joined the copies.
        if received.bytes.starts(with: token) { return received.source?.unmapped }
      }
    }
    return nil
  }
}
