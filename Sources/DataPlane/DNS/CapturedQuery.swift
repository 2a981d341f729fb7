internal import Addressing

/// A DNS query that was captured as a datagram and goes on by TCP.
struct CapturedQuery: Sendable {
  /// Who is to be answered.
  let client: SocketAddress
  /// Whom the client asked: the answer must come from there.
  let destination: SocketAddress
  /// Who is asked in fact.
  let resolver: SocketAddress
  let message: [UInt8]
}

/// What is needed of a captured query when its answer comes.
struct Requester {
  let client: SocketAddress
  let destination: SocketAddress
}
