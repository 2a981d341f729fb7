package import Addressing

/// The client's side of one CONNECT or BIND of SOCKS4 or SOCKS4a.
///
///     ready ──start──▶ reply ──90──────▶ established
///                       │ │                  ▲
///                       │ └─90─▶ listening ─90
///                       └─anything else──┴──▶ failed
///
/// BIND has two replies: where the server listens, and who has come.
///
/// The machine has no socket and no clock. Once it has ended it repeats how, and takes no bytes.
package struct SOCKS4Handshake: Sendable {
  package typealias Action = ClientHandshake.Action

  /// The room that a request needs in its output.
  package static let maximumOutputBytes = SOCKS4Request.maximumBytes

  private enum State {
    case ready
    case reply
    case listening
    case established
    case failed(HandshakeFailure)
  }

  private var state = State.ready
  /// Has room for `SOCKS4Reply.bytes`.
  private var partial = MessageBuffer<8>()
  private let command: Command
  private let destination: Endpoint
  private let user: UserID?

  /// Where the server listens, once it does; zeros for the address by which it is reached.
  package private(set) var listener: SocketAddress?
  /// Who has come to the listener.
  package private(set) var peer: SocketAddress?

  /// Fails if no request can name the destination.
  /// - Parameter command: CONNECT or BIND.
  /// - Parameter takesNames: whether the server speaks SOCKS4a.
  package init(
    _ command: Command = .connect, destination: Endpoint, user: UserID?, takesNames: Bool
  ) throws(HandshakeFailure) {
    guard SOCKS4Request.canName(destination, takesNames: takesNames) else {
      throw .destinationNotSupported
    }
    self.command = command
    self.destination = destination
    self.user = user
  }

  /// Writes the request; to be called once, before anything else.
  package mutating func start(into output: inout OutputSpan<UInt8>) {
    guard case .ready = state else { preconditionFailure("the handshake was started before") }
    SOCKS4Request.encode(command, to: destination, user, into: &output)
    state = .reply
  }

  /// Takes bytes from the server, in whatever pieces they come. Nothing is ever to be sent behind the
  /// request.
  package mutating func receive(_ input: Span<UInt8>) -> (consumed: Int, action: Action) {
    var consumed = 0
    switch state {
    case .ready:
      guard !input.isEmpty else { return (0, .receive) }
      return fail(.protocolViolation(.trailingBytes), consumed)
    case .established: return (0, .established)
    case .failed(let failure): return (0, .failed(failure))
    case .reply, .listening:
      let reply: SOCKS4Reply?
      do {
        reply = try partial.next(SOCKS4Reply.self, from: input, &consumed)
      } catch {
        return fail(.protocolViolation(error), consumed)
      }
      guard let reply else { return (consumed, .receive) }
      guard reply.code == .granted else { return fail(.refusedBySOCKS4(reply.code), consumed) }
      if case .listening = state {
        peer = reply.bound
      } else if command == .bind {
        listener = reply.bound
        state = .listening
        return (consumed, .listening)
      }
      state = .established
      return (consumed, .established)
    }
  }

  /// The server closed or reset the connection in place of a reply.
  package mutating func receiveEnd() -> HandshakeFailure {
    if case .failed(let earlier) = state { return earlier }
    if case .established = state {
      preconditionFailure("the end of an established connection is not ours")
    }
    let failure = HandshakeFailure.closed(.answer)
    state = .failed(failure)
    return failure
  }

  private mutating func fail(
    _ failure: HandshakeFailure, _ consumed: Int
  ) -> (consumed: Int, action: Action) {
    state = .failed(failure)
    return (consumed, .failed(failure))
  }
}
