internal import Addressing
internal import DNS
internal import LinuxIO
internal import SOCKS

/// One resolver: the queries that wait for it, and the TCP connection through the upstream that they
/// travel on, one after the other as they come and go.
///
///     closed ──query──▶ connecting ──▶ handshaking ──▶ open
///       ▲                   │               │           │
///       └───────────────────┴──── lost ─────┴───────────┘   and on to connecting if queries wait
///
/// It is kept until no query has come for `idleTimeout`, with or without a connection: servers close
/// idle ones much earlier (RFC 7766, section 6.2.3), and the next query then makes another.
final class ResolverConnection {
  static let idleTimeout = Timeout.seconds(120)
  /// Bytes of queries that are put together for one send; more wait in the pipeline.
  private static let outputBytes = 16 * 1024

  enum State { case closed, connecting, handshaking, open }

  let resolver: SocketAddress
  var pipeline: QueryPipeline<Requester>
  var state = State.closed
  /// Of the present socket, so that events of an earlier one find nobody.
  var generation: UInt32 = 0
  var socket: Descriptor?
  var readiness: Readiness = []
  /// Of the handshake; then what protects the connection, if anything does.
  let negotiation = Negotiation()
  /// When connecting or the handshake has taken too long.
  var deadline = Instant(milliseconds: 0)
  /// There was more to receive than one turn may take.
  var hasYielded = false
  /// When the present connection last brought an answer; nil if it has brought none.
  var lastAnswer: Instant?
  var lastQuery: Instant
  /// Number of the last query among those to all resolvers.
  var lastUse: UInt64 = 0

  /// Queries on their way into the socket.
  private var output: [UInt8] = []
  private var sentCount = 0

  init(_ resolver: SocketAddress, timeout: Timeout, now: Instant) {
    self.resolver = resolver
    pipeline = QueryPipeline(timeoutMilliseconds: UInt64(timeout.milliseconds))
    lastQuery = now
  }

  /// Sends what the socket takes; `.bytes` when there is nothing left to send.
  func flush(to socket: Int32) -> Transfer {
    if let channel = negotiation.protection { return flush(to: socket, through: channel) }
    while true {
      if sentCount == output.count {
        output.removeAll(keepingCapacity: true)
        sentCount = 0
        pipeline.encodeUnsent(into: &output, upTo: Self.outputBytes)
        if output.isEmpty { return .bytes(0) }
      }
      let result = output.withUnsafeBytes { bytes in
        send(socket, UnsafeRawBufferPointer(rebasing: bytes[sentCount...]))
      }
      switch result {
      case .bytes(let count): sentCount += count
      case .wouldBlock, .failed: return result
      }
    }
  }

  private func flush(to socket: Int32, through channel: ProtectedChannel) -> Transfer {
    while true {
      let result = channel.flush(to: socket)
      guard case .bytes = result else { return result }
      pipeline.encodeUnsent(into: &output, upTo: Self.outputBytes)
      if output.isEmpty { return .bytes(0) }
      let queries = output
      output = []
      do throws(HandshakeFailure) {
        try queries.span.withUnsafeBytes { (bytes) throws(HandshakeFailure) in
          try channel.wrap(bytes)
        }
      } catch {
        return .failed(.connectionReset)
      }
    }
  }

  /// Lets go of the socket, and of what was on its way into it; true if there was one.
  func close() -> Bool {
    let wasOpen = socket != nil
    socket = nil
    state = .closed
    readiness = []
    hasYielded = false
    lastAnswer = nil
    negotiation.reset()
    output.removeAll(keepingCapacity: true)
    sentCount = 0
    return wasOpen
  }

  /// When something is to be done next, if no event comes before.
  /// - Parameter attempt: when the upstream's queue, if it is full, is tried again.
  func nextDeadline(now: Instant, attempt: Instant) -> Instant {
    if state == .connecting, socket == nil { return min(deadline, attempt) }
    if hasYielded { return now + Timeout(milliseconds: 1) }
    guard let expiry = pipeline.nextExpiry.map(Instant.init(milliseconds:)) else {
      return isEstablishing ? deadline : lastQuery + Self.idleTimeout
    }
    return isEstablishing ? min(deadline, expiry) : expiry
  }

  /// Whether there is a socket that cannot carry queries yet.
  var isEstablishing: Bool {
    switch state {
    case .connecting, .handshaking: true
    case .closed, .open: false
    }
  }
}
