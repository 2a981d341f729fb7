package import Addressing

/// The client's side of one request, a CONNECT as a rule: greeting, RFC 1929 where the server asks for
/// it, request.
///
///     ready ──start──▶ methodSelection ──02──▶ authentication ──status 0──▶ reply ──REP 0──▶ established
///                          │ │                    │                        ▲ │ │               ▲
///                          │ └─────────00─────────┼────────────────────────┘ │ └─BIND─▶ listening
///                          └──anything else───────┴──────────────────────────┴─────────────┴──▶ failed
///
/// BIND has two replies (RFC 1928, section 6): where the server listens, and who has come.
///
/// Stepwise, each arrow into `authentication` and `reply` writes the message that is to be answered,
/// and a byte that arrives before it is a violation. Pipelined, `start` has written all of them, so
/// the method must be known in advance: 02 with credentials, else 00. Admitted, `start` leads to `reply`.
///
/// The machine has no socket and no clock. Once it has ended it repeats how, and takes no bytes.
package struct ClientHandshake: Sendable {
  /// Whether each message waits for the answer to the one before.
  package enum Mode: Hashable, Sendable {
    case stepwise
    /// All messages in one write. Some servers hang on it: only for those that are known to take it.
    case pipelined
    /// The server has let us in already (`Admission`): the request is the first message.
    case admitted
  }

  package enum Action: Hashable, Sendable {
    /// Send what was written to the output, if anything, and wait for more; all input was taken.
    case receive
    /// The server says where it listens (BIND): `boundAddress`. Call again with what is left of the input,
    /// if only with nothing.
    case listening
    /// The server says that it is connected; what is left of the input is the application's.
    case established
    case failed(HandshakeFailure)
    /// Make a step towards the security context (`SecurityHandshake`, no other machine).
    case step
  }

  /// The room that a whole handshake needs in its output.
  package static let maximumOutputBytes =
    Greeting.maximumOutputBytes + Authentication.maximumBytes + Request.maximumBytes

  /// The same where the credentials and the destination are known; most destinations are no names.
  package static func maximumOutputBytes(for destination: Endpoint, _ credentials: Credentials?)
    -> Int
  {
    var bytes = maximumOutputBytes
    if credentials == nil { bytes -= Authentication.maximumBytes }
    if case .address = destination {
      bytes -= AddressField.maximumBytes - AddressField.maximumAddressBytes
    }
    return bytes
  }

  private enum State {
    case ready
    case methodSelection
    case authentication
    case reply
    case listening
    case established
    case failed(HandshakeFailure)
  }

  private var state = State.ready
  /// Has room for `Reply.maximumBytes`, the longest message of a server.
  private var partial = MessageBuffer<262>()
  private let command: Command
  private let destination: Endpoint
  private let credentials: Credentials?
  private let mode: Mode

  /// The address or name that the server reported as its own side of the connection, once that is
  /// established, or with BIND as its listener; nil if it reported a name that no host can have. Many
  /// servers report nonsense.
  package private(set) var boundAddress: Endpoint?
  /// The port that it reported, known where the name is none; 0 before.
  package private(set) var boundPort: UInt16 = 0
  /// Who has come to the listener of a BIND, as the second reply says it.
  package private(set) var peer: Endpoint?

  /// - Parameter command: what to ask for; what follows a success is up to the command.
  package init(
    _ command: Command = .connect, destination: Endpoint, credentials: Credentials?, mode: Mode
  ) {
    self.command = command
    self.destination = destination
    self.credentials = credentials
    self.mode = mode
  }

  /// What the greeting offers. 02 stands there only with credentials, since some servers select it
  /// whenever they see it.
  private var greeting: Greeting {
    Greeting(
      offersNoAuthentication: credentials == nil || mode == .stepwise,
      offersUsernamePassword: credentials != nil)
  }

  /// What is waited for; nil before the start and after the end.
  package var phase: HandshakePhase? {
    switch state {
    case .methodSelection: .methodSelection
    case .authentication: .authentication
    case .reply, .listening: .reply
    case .ready, .established, .failed: nil
    }
  }

  /// Writes the first bytes to send; to be called once, before anything else.
  package mutating func start(into output: inout OutputSpan<UInt8>) {
    guard case .ready = state else { preconditionFailure("the handshake was started before") }
    guard mode != .admitted else {
      Request.encode(command, to: destination, into: &output)
      state = .reply
      return
    }
    greeting.encode(into: &output)
    if mode == .pipelined {
      if let credentials { Authentication.encode(credentials, into: &output) }
      Request.encode(command, to: destination, into: &output)
    }
    state = .methodSelection
  }

  /// The same where the method has been selected, in a greeting that somebody else wrote.
  mutating func start(after method: Method, into output: inout OutputSpan<UInt8>) {
    guard case .ready = state else { preconditionFailure("the handshake was started before") }
    if method == .usernamePassword, let credentials {
      Authentication.encode(credentials, into: &output)
      state = .authentication
    } else {
      Request.encode(command, to: destination, into: &output)
      state = .reply
    }
  }

  /// Takes bytes from the server, in whatever pieces they come, and writes what is to be sent next.
  package mutating func receive(
    _ input: Span<UInt8>, into output: inout OutputSpan<UInt8>
  ) -> (consumed: Int, action: Action) {
    var consumed = 0
    do throws(HandshakeFailure) {
      while true {
        switch state {
        case .ready:
          guard input.isEmpty else { throw .protocolViolation(.trailingBytes) }
          return (consumed, .receive)
        case .methodSelection:
          guard let selection = try partial.nextAnswer(MethodSelection.self, from: input, &consumed)
          else {
            return (consumed, .receive)
          }
          try handle(selection, hasMore: consumed < input.count, into: &output)
        case .authentication:
          guard
            let status = try partial.nextAnswer(AuthenticationStatus.self, from: input, &consumed)
          else {
            return (consumed, .receive)
          }
          try handle(status, hasMore: consumed < input.count, into: &output)
        case .reply:
          guard let reply = try partial.nextAnswer(Reply.self, from: input, &consumed) else {
            return (consumed, .receive)
          }
          try handle(reply)
          if case .listening = state { return (consumed, .listening) }
        case .listening:
          guard let reply = try partial.nextAnswer(Reply.self, from: input, &consumed) else {
            return (consumed, .receive)
          }
          try handlePeer(reply)
        case .established:
          return (consumed, .established)
        case .failed(let failure):
          return (consumed, .failed(failure))
        }
      }
    } catch {
      state = .failed(error)
      return (consumed, .failed(error))
    }
  }

  /// The server closed or reset the connection in place of a further message.
  package mutating func receiveEnd() -> HandshakeFailure {
    let failure: HandshakeFailure
    switch state {
    case .ready, .methodSelection: failure = .closed(.methodSelection)
    case .authentication: failure = .closed(.authentication)
    case .reply, .listening: failure = .closed(.reply)
    case .established: preconditionFailure("the end of an established connection is not ours")
    case .failed(let earlier): failure = earlier
    }
    state = .failed(failure)
    return failure
  }

  // MARK: Messages

  private mutating func handle(
    _ selection: MethodSelection, hasMore: Bool, into output: inout OutputSpan<UInt8>
  ) throws(HandshakeFailure) {
    if selection.method == .noAcceptable { throw .noAcceptableMethod }
    guard greeting.offers(selection.method) else {
      throw .protocolViolation(.methodNeverOffered(selection.method))
    }
    if selection.method == .usernamePassword, let credentials {
      state = .authentication
      try answer(hasMore: hasMore) { Authentication.encode(credentials, into: &output) }
    } else {
      state = .reply
      try answer(hasMore: hasMore) { Request.encode(command, to: destination, into: &output) }
    }
  }

  private mutating func handle(
    _ status: AuthenticationStatus, hasMore: Bool, into output: inout OutputSpan<UInt8>
  ) throws(HandshakeFailure) {
    guard status.isSuccess else { throw .authenticationRejected(status: status.status) }
    state = .reply
    try answer(hasMore: hasMore) { Request.encode(command, to: destination, into: &output) }
  }

  private mutating func handle(_ reply: Reply) throws(HandshakeFailure) {
    guard reply.code == .succeeded else { throw .refused(reply.code) }
    boundAddress = reply.bound
    boundPort = reply.boundPort
    state = command == .bind ? .listening : .established
  }

  /// The second reply of a BIND.
  private mutating func handlePeer(_ reply: Reply) throws(HandshakeFailure) {
    guard reply.code == .succeeded else { throw .refused(reply.code) }
    peer = reply.bound
    state = .established
  }

  /// Writes the next message unless `start` has; stepwise, the server cannot have answered it yet.
  private func answer(
    hasMore: Bool, _ encode: () -> Void
  ) throws(HandshakeFailure) {
    switch mode {
    case .stepwise:
      guard !hasMore else { throw .protocolViolation(.trailingBytes) }
      encode()
    case .pipelined, .admitted:
      return
    }
  }
}
