internal import Addressing
internal import LinuxIO

/// What an association through a chain of upstreams has: one UDP ASSOCIATE with each hop, whose control
/// connection goes through the hops before it, and the headers that lead a datagram through all relays.
///
///     client ──▶ relay of hop 1 ──▶ relay of hop 2 ──▶ … ──▶ destination
///                 │ leg 1            │ leg 2, through hop 1
///
/// All legs are made at the same time; when the last is open, so is the association, and the end of any
/// is its end.
final class NestedAssociation {
  final class Leg {
    enum State { case connecting, handshaking, open }

    /// Counted from 0.
    let hop: Int
    /// Index of the worker's `Negotiation` up to the handshake's end.
    var negotiation: Int32
    var state = State.connecting
    var control: Descriptor?
    var readiness: Readiness = []
    /// Where the hop takes datagrams, as the one before it is told, once that is known.
    var relay: Endpoint?
    /// It may take them at another address.
    var isRelayUncertain = false

    init(hop: Int, negotiation: Int32) {
      self.hop = hop
      self.negotiation = negotiation
    }
  }

  /// One for each hop.
  let legs: [Leg]
  let connectDeadline: Instant
  private var headers: NestedHeaders?

  init(_ legs: [Leg], connectDeadline: Instant) {
    self.legs = legs
    self.connectDeadline = connectDeadline
  }

  /// Whether datagrams can go, as all legs are open.
  var isComplete: Bool { legs.allSatisfy { $0.state == .open } }

  /// To be called once it is complete.
  func makeHeaders() { headers = NestedHeaders(legs.dropFirst().compactMap(\.relay)) }

  /// What precedes the header of each datagram; it stays as long as the association.
  var prefix: UnsafeRawBufferPointer {
    headers?.prefix ?? UnsafeRawBufferPointer(start: nil, count: 0)
  }

  /// What the last hop's relay has sent, out of what the first's has.
  func unwrap(
    _ datagram: UnsafeRawBufferPointer
  ) throws(DatagramDrop) -> UnsafeRawBufferPointer {
    guard headers != nil else { throw .malformed }
    return try headers!.unwrap(datagram)
  }
}
