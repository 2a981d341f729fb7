package import Addressing

/// The client's side of one request through GSSAPI (RFC 1961): greeting, security context, protection
/// level, and then a `ClientHandshake`'s request in protected messages.
///
///     ready ──start──▶ methodSelection ──01──▶ stepping ──token──▶ context
///                           │                  │  ▲                 │
///                           │                  │  └─────token───────┘
///                           02                 └──complete──▶ protection ──level 1–3──▶ protected ──REP 0──▶ established
///                           │                                     └──────level 0──▶ plain ──REP 0──▶ established
///                           └──────────────────────────────────────────────────────▶ plain
///
/// `protected` and `plain` take the second reply of a BIND as well, before they are established.
///
/// Whatever else comes leads to `failed`. The library that steps towards the context may ask a key
/// distribution centre and block, so the machine asks for each step by `.step` and is given its result
/// later; nothing is received meanwhile. `start` and the greeting never offer 00: who wants GSSAPI is not to be
/// served without it unseen.
///
/// The machine has no socket and no clock. Once it has ended it repeats how, and takes no bytes.
package struct SecurityHandshake: Sendable {
  package typealias Action = ClientHandshake.Action

  private enum State {
    case ready
    case methodSelection
    case stepping
    case context
    case protection
    case plain
    case protected
    case established
    case failed(HandshakeFailure)
  }

  private var state = State.ready
  private let offer: SecurityOffer
  private var request: ClientHandshake
  private var selection = MessageBuffer<2>()
  /// The part of a message that has arrived.
  private var partial: [UInt8] = []

  /// What the server has said for the step that is to be made; empty for the first.
  package private(set) var token: [UInt8] = []
  /// What becomes of every message from now on; none before it has been agreed on.
  package private(set) var level = ProtectionLevel.none
  /// What came in a protected message behind the bytes that the request has taken.
  private var unread: [UInt8] = []
  /// What came for the application in the same protected message as the reply.
  package private(set) var rest: [UInt8] = []

  package init(_ command: Command = .connect, destination: Endpoint, _ offer: SecurityOffer) {
    self.offer = offer
    request = ClientHandshake(
      command, destination: destination, credentials: offer.credentials, mode: .stepwise)
  }

  package var boundAddress: Endpoint? { request.boundAddress }
  package var boundPort: UInt16 { request.boundPort }
  package var peer: Endpoint? { request.peer }

  /// Whether the result of a step is waited for.
  package var isStepping: Bool {
    if case .stepping = state { true } else { false }
  }

  /// What is waited for; nil before the start and after the end.
  package var phase: HandshakePhase? {
    switch state {
    case .methodSelection: .methodSelection
    case .stepping, .context, .protection: .authentication
    case .plain: request.phase
    case .protected: .reply
    case .ready, .established, .failed: nil
    }
  }

  /// Writes the greeting; to be called once, before anything else.
  package mutating func start(into output: inout [UInt8]) {
    guard case .ready = state else { preconditionFailure("the handshake was started before") }
    output.append(socksVersion)
    output.append(offer.credentials == nil ? 1 : 2)
    output.append(Method.gssapi.rawValue)
    if offer.credentials != nil { output.append(Method.usernamePassword.rawValue) }
    state = .methodSelection
  }

  /// Takes bytes from the server, in whatever pieces they come, and writes what is to be sent next.
  /// - Parameter protection: the context that the steps are made of.
  package mutating func receive(
    _ input: Span<UInt8>, _ protection: some MessageProtection, into output: inout [UInt8]
  ) -> (consumed: Int, action: Action) {
    var consumed = 0
    do throws(HandshakeFailure) {
      while true {
        switch state {
        case .ready:
          guard input.isEmpty else { throw .protocolViolation(.trailingBytes) }
          return (consumed, .receive)
        case .methodSelection:
          guard let answer = try selection.nextAnswer(MethodSelection.self, from: input, &consumed)
          else { return (consumed, .receive) }
          try handle(answer.method, into: &output)
          guard consumed == input.count else { throw .protocolViolation(.trailingBytes) }
        case .stepping:
          return (consumed, .step)
        case .context, .protection:
          guard let (purpose, token) = try nextMessage(from: input, &consumed) else {
            return (consumed, .receive)
          }
          try handle(purpose, token, protection, into: &output)
          guard consumed == input.count else { throw .protocolViolation(.trailingBytes) }
        case .plain:
          let (taken, action) = receivePlain(input.extracting(consumed...), into: &output)
          consumed += taken
          switch action {
          case .receive: return (consumed, .receive)
          case .listening: return (consumed, .listening)
          case .established: state = .established
          case .failed(let failure): throw failure
          case .step: preconditionFailure("a request has no steps")
          }
        case .protected:
          if unread.isEmpty {
            guard let (purpose, token) = try nextMessage(from: input, &consumed) else {
              return (consumed, .receive)
            }
            guard purpose == .data else {
              throw .protocolViolation(SecurityMessage.unexpected(purpose))
            }
            unread = try unwrap(token, protection)
          }
          if try handleReply() { return (consumed, .listening) }
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

  /// Takes the result of the step that `.step` asked for, and writes what is to be sent next; how the
  /// machine goes on is told by the next `receive`.
  package mutating func handleStep(
    _ result: Result<SecurityStep, SecurityFailure>, _ protection: some MessageProtection,
    into output: inout [UInt8]
  ) {
    guard case .stepping = state else { preconditionFailure("no step was asked for") }
    token = []
    do throws(SecurityFailure) {
      let step = try result.get()
      if !step.token.isEmpty {
        try SecurityMessage.encode(.context, step.token, into: &output)
      }
      if step.isComplete {
        let level = [offer.levels[0].rawValue]
        try SecurityMessage.encode(
          .protection, try protection.wrap(level, confidentially: false), into: &output)
        state = .protection
      } else {
        guard !step.token.isEmpty else { throw SecurityFailure.nothingToSay }
        state = .context
      }
    } catch {
      state = .failed(.securityFailed(error))
    }
  }

  /// The server closed or reset the connection in place of a further message.
  package mutating func receiveEnd() -> HandshakeFailure {
    let failure: HandshakeFailure
    switch state {
    case .ready, .methodSelection: failure = .closed(.methodSelection)
    case .stepping, .context, .protection: failure = .closed(.authentication)
    case .plain, .protected: failure = request.receiveEnd()
    case .established: preconditionFailure("the end of an established connection is not ours")
    case .failed(let earlier): failure = earlier
    }
    state = .failed(failure)
    return failure
  }

  // MARK: Messages

  /// The next whole message; nil when `input` ends before it does.
  private mutating func nextMessage(
    from input: Span<UInt8>, _ consumed: inout Int
  ) throws(HandshakeFailure) -> (SecurityMessage.Purpose, token: [UInt8])? {
    while true {
      let needed: Int
      switch try head() {
      case nil:
        // What is wrong shows at its byte, and an abort ends at its second.
        needed = partial.count + 1
      case .abort: throw .securityAborted
      case .token(let purpose, let count):
        needed = SecurityMessage.headBytes + count
        if partial.count == needed {
          defer { partial.removeAll() }
          return (purpose, Array(partial[SecurityMessage.headBytes...]))
        }
      }
      guard consumed < input.count else { return nil }
      let end = min(consumed + needed - partial.count, input.count)
      partial.reserveCapacity(partial.count + end - consumed)
      for index in consumed..<end { partial.append(input[index]) }
      consumed = end
    }
  }

  private func head() throws(HandshakeFailure) -> SecurityMessage? {
    do {
      return try SecurityMessage.decode(from: partial.span)
    } catch {
      throw .protocolViolation(error)
    }
  }

  private mutating func handle(
    _ method: Method, into output: inout [UInt8]
  ) throws(HandshakeFailure) {
    switch method {
    case .gssapi: state = .stepping
    case .usernamePassword where offer.credentials != nil:
      writeRequest(after: method, into: &output)
      state = .plain
    case .noAcceptable: throw .noAcceptableMethod
    case .noAuthentication, .usernamePassword, .other:
      throw .protocolViolation(.methodNeverOffered(method))
    }
  }

  private mutating func handle(
    _ purpose: SecurityMessage.Purpose, _ token: [UInt8], _ protection: some MessageProtection,
    into output: inout [UInt8]
  ) throws(HandshakeFailure) {
    switch (state, purpose) {
    case (.context, .context):
      self.token = token
      state = .stepping
    case (.protection, .context) where token.isEmpty:
      // The server has completed the context without a token, and says so.
      return
    case (.protection, .protection):
      try agree(on: try unwrap(token, protection), protection, into: &output)
    default: throw .protocolViolation(SecurityMessage.unexpected(purpose))
    }
  }

  /// The server's choice of the level: the request follows under its protection.
  private mutating func agree(
    on choice: [UInt8], _ protection: some MessageProtection, into output: inout [UInt8]
  ) throws(HandshakeFailure) {
    guard choice.count == 1 else { throw .protocolViolation(.malformedProtectionLevel) }
    guard let level = ProtectionLevel(rawValue: choice[0]), offer.levels.contains(level) else {
      throw .protectionNotAcceptable(choice[0])
    }
    self.level = level
    guard level != .none else {
      writeRequest(after: .gssapi, into: &output)
      state = .plain
      return
    }
    var plain: [UInt8] = []
    writeRequest(after: .gssapi, into: &plain)
    do {
      let token = try protection.wrap(plain, confidentially: level.encryptsRequest)
      try SecurityMessage.encode(.data, token, into: &output)
    } catch {
      throw .securityFailed(error)
    }
    state = .protected
  }

  private func unwrap(
    _ token: [UInt8], _ protection: some MessageProtection
  ) throws(HandshakeFailure) -> [UInt8] {
    let bytes: [UInt8]
    let isConfidential: Bool
    do {
      (bytes, isConfidential) = try protection.unwrap(token)
    } catch {
      throw .securityFailed(error)
    }
    guard isConfidential || level != .confidentiality else {
      throw .protocolViolation(.unprotectedMessage)
    }
    return bytes
  }

  /// Whether the server has just said where it listens.
  private mutating func handleReply() throws(HandshakeFailure) -> Bool {
    var nothing: [UInt8] = []
    let bytes = unread
    let (taken, action) = receivePlain(bytes.span, into: &nothing)
    unread.removeFirst(taken)
    switch action {
    case .receive: return false
    case .listening: return true
    case .established:
      swap(&rest, &unread)
      state = .established
      return false
    case .failed(let failure): throw failure
    case .step: preconditionFailure("a request has no steps")
    }
  }

  private mutating func receivePlain(
    _ input: Span<UInt8>, into output: inout [UInt8]
  ) -> (consumed: Int, action: Action) {
    var result = (consumed: 0, action: Action.receive)
    output.append(addingCapacity: ClientHandshake.maximumOutputBytes) {
      result = request.receive(input, into: &$0)
    }
    return result
  }

  private mutating func writeRequest(after method: Method, into output: inout [UInt8]) {
    output.append(addingCapacity: ClientHandshake.maximumOutputBytes) {
      request.start(after: method, into: &$0)
    }
  }
}
