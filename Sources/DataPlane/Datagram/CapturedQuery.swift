internal import Addressing

/// A DNS query that was captured as a datagram and is to be carried over TCP.
struct CapturedQuery: Sendable {
  /// Whom to answer.
  let client: SocketAddress
  /// Whom the client has asked, and from where the answer must come.
  let destination: SocketAddress
  /// Whom to ask.
  let resolver: SocketAddress
  let message: [UInt8]
}

extension Worker {
  func carryQuery(_ query: CapturedQuery) { counters.add(.noAssociation) }
}
