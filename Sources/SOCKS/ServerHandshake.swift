package import Addressing

/// The server's side of one request: greeting, RFC 1929 where we ask for it, request, reply.
///
///     greeting ──00──▶ request ──CONNECT────────▶ connecting ───┬──reply 0──▶ (the relay)
///        │ │              ▲ │ └──UDP ASSOCIATE──▶ associating ──┤
///        │ └─02─▶ authentication                                │
///        │                │ │                                   │
///        └─anything else──┴─┴─anything else─────────────────────┴─another reply──▶ rejected
///
/// With credentials 02 is the only method that is taken, without them 00 is. A client may send ahead
/// without waiting for answers, application data behind the request included.
///
/// The machine has no socket and no clock. Once it has ended it repeats how, and takes no bytes.
package struct ServerHandshake: Sendable {
  package enum Action: Hashable, Sendable {
    /// Send what was written to the output, if anything, and wait for more; all input was taken.
    case receive
    /// Connect to this and call `reply`; what is left of the input is for the target.
    case connect(Endpoint)
    /// Open a relay for datagrams and call `reply`. They will come from here, the client says; zeros
    /// if it does not know, and many send nonsense (RFC 1928, section 4).
    case associate(Endpoint)
    /// Send what was written to the output, if anything, and close.
    case reject
  }

  /// The room that a whole handshake, the reply included, needs in its output.
  package static let maximumOutputBytes =
    MethodSelection.bytes + AuthenticationStatus.bytes + Reply.maximumOutputBytes

  private enum State {
    case greeting
    case authentication(Credentials)
    case request
    case connecting(Endpoint)
    case associating(Endpoint)
    case rejected(Rejection)
  }

  private var state = State.greeting
  /// Has room for `Authentication.maximumBytes`, the longest message of a client.
  private var partial = MessageBuffer<513>()
  private let credentials: Credentials?
  private let relaysDatagrams: Bool

  /// - Parameters:
  ///   - credentials: what every client must show; nil lets everybody in.
  ///   - relaysDatagrams: whether UDP ASSOCIATE is taken, too.
  package init(credentials: Credentials?, relaysDatagrams: Bool = false) {
    self.credentials = credentials
    self.relaysDatagrams = relaysDatagrams
  }

  /// Why the client was rejected; nil as long as it is not.
  package var rejection: Rejection? {
    switch state {
    case .greeting, .authentication, .request, .connecting, .associating: nil
    case .rejected(let rejection): rejection
    }
  }

  /// Takes bytes from the client, in whatever pieces they come, and writes what is to be sent next.
  package mutating func receive(
    _ input: Span<UInt8>, into output: inout OutputSpan<UInt8>
  ) -> (consumed: Int, action: Action) {
    var consumed = 0
    while true {
      do throws(Violation) {
        switch state {
        case .greeting:
          guard let greeting = try partial.next(Greeting.self, from: input, &consumed) else {
            return (consumed, .receive)
          }
          handle(greeting, into: &output)
        case .authentication(let credentials):
          guard let attempt = try partial.next(Authentication.self, from: input, &consumed) else {
            return (consumed, .receive)
          }
          handle(attempt, expecting: credentials, into: &output)
        case .request:
          guard let request = try partial.next(Request.self, from: input, &consumed) else {
            return (consumed, .receive)
          }
          handle(request, into: &output)
        case .connecting(let destination):
          return (consumed, .connect(destination))
        case .associating(let client):
          return (consumed, .associate(client))
        case .rejected:
          return (consumed, .reject)
        }
      } catch {
        handle(error, into: &output)
      }
    }
  }

  /// Answers the request after `.connect` or `.associate`; any code but `succeeded` ends the
  /// handshake, and the connection is to be closed.
  ///
  /// `bound` is our side of the connection to the target, or the relay; zeros if there is none.
  package mutating func reply(
    _ code: ReplyCode, bound: SocketAddress, into output: inout OutputSpan<UInt8>
  ) {
    switch state {
    case .connecting, .associating: break
    case .greeting, .authentication, .request, .rejected:
      preconditionFailure("there is no request to answer")
    }
    Reply.encode(code, bound: bound, into: &output)
    if code != .succeeded { state = .rejected(.refused(code)) }
  }

  // MARK: Messages

  private mutating func handle(_ greeting: Greeting, into output: inout OutputSpan<UInt8>) {
    let method = credentials == nil ? Method.noAuthentication : .usernamePassword
    guard greeting.offers(method) else {
      MethodSelection(method: .noAcceptable).encode(into: &output)
      state = .rejected(.noAcceptableMethod)
      return
    }
    MethodSelection(method: method).encode(into: &output)
    state = credentials.map(State.authentication) ?? .request
  }

  private mutating func handle(
    _ attempt: Authentication, expecting credentials: Credentials,
    into output: inout OutputSpan<UInt8>
  ) {
    let isAccepted = credentials.accepts(attempt)
    AuthenticationStatus(status: isAccepted ? 0 : 1).encode(into: &output)
    state = isAccepted ? .request : .rejected(.wrongCredentials)
  }

  private mutating func handle(_ request: Request, into output: inout OutputSpan<UInt8>) {
    switch request.command {
    case .connect:
      guard let destination = request.destination else {
        handle(.invalidName, into: &output)
        return
      }
      state = .connecting(destination)
    case .udpAssociate where relaysDatagrams:
      state = .associating(request.destination ?? .address(SocketAddress(.v4(.any), 0)))
    case .bind, .udpAssociate, .other:
      refuse(.commandNotSupported, .commandNotSupported(request.command), into: &output)
    }
  }

  /// Answers a violation in the form that the client waits for, where it can understand any.
  private mutating func handle(_ violation: Violation, into output: inout OutputSpan<UInt8>) {
    let rejection = Rejection.protocolViolation(violation)
    switch violation {
    case .unknownAddressType: refuse(.addressTypeNotSupported, rejection, into: &output)
    case .invalidName: refuse(.hostUnreachable, rejection, into: &output)
    case .wrongAuthenticationVersion:
      AuthenticationStatus(status: 1).encode(into: &output)
      state = .rejected(rejection)
    case .wrongVersion, .methodNeverOffered, .trailingBytes, .notHTTP, .responseTooLong,
      .wrongReplyVersion:
      state = .rejected(rejection)
    }
  }

  private mutating func refuse(
    _ code: ReplyCode, _ rejection: Rejection, into output: inout OutputSpan<UInt8>
  ) {
    Reply.encode(code, bound: SocketAddress(.v4(.any), 0), into: &output)
    state = .rejected(rejection)
  }
}
