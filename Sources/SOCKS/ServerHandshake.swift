package import Addressing

/// The server's side of one request: greeting, RFC 1929 where we ask for it, request, reply; or a request
/// of SOCKS4 or SOCKS4a, which the first byte tells.
///
///     opening ──00──▶ request ──CONNECT────────▶ connecting ────┬──reply 0──▶ (the relay)
///       │ │ │            ▲ │ ├──UDP ASSOCIATE──▶ associating ───┤
///       │ │ └─02─▶ authentication                 ┌──reply 0──▶ accepting
///       │ │              │ │ └──BIND───────────▶ binding ───────┤
///       │ └─SOCKS4───────│─│──CONNECT or BIND──▶ (the same) ────┤
///       └─anything else──┴─┴─anything else──────────────────────┴─another reply──▶ rejected
///
/// With credentials 02 is the only method that is taken, without them 00 is. SOCKS4 has no password: with
/// credentials it is refused (code 5B, as v2ray does: 5D would blame an identd). A client may send ahead
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
    /// Listen for a connection from this host, from any if it is zeros, and call `reply` twice: with our
    /// listening address, and with the peer that came. What is left of the input is for that one.
    case bind(Endpoint)
    /// Send what was written to the output, if anything, and close.
    case reject
  }

  /// The room that a whole handshake, both replies to BIND included, needs in its output; SOCKS4 needs less.
  package static let maximumOutputBytes =
    MethodSelection.bytes + AuthenticationStatus.bytes + 2 * Reply.maximumOutputBytes

  private enum State {
    case opening
    case authentication(Logins)
    case request
    case connecting(Endpoint)
    case associating(Endpoint)
    case binding(Endpoint)
    case accepting(Endpoint)
    case rejected(Rejection)
  }

  private var state = State.opening
  /// Has room for `SOCKS4Request.maximumBytes`, the longest message of a client.
  private var partial = MessageBuffer<520>()
  /// Whether the client waits for a reply of SOCKS4.
  private var isSOCKS4 = false
  private let logins: Logins?
  private let relaysDatagrams: Bool
  private let listens: Bool

  /// - Parameters:
  ///   - logins: one of which every client must show; nil lets everybody in.
  ///   - relaysDatagrams: whether UDP ASSOCIATE is taken, too.
  ///   - listens: whether BIND is.
  package init(logins: Logins?, relaysDatagrams: Bool = false, listens: Bool = false) {
    self.logins = logins
    self.relaysDatagrams = relaysDatagrams
    self.listens = listens
  }

  /// Why the client was rejected; nil as long as it is not.
  package var rejection: Rejection? {
    switch state {
    case .opening, .authentication, .request, .connecting, .associating, .binding, .accepting: nil
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
        case .opening:
          guard let opening = try partial.next(Opening.self, from: input, &consumed) else {
            return (consumed, .receive)
          }
          switch opening {
          case .greeting(let greeting): handle(greeting, into: &output)
          case .request(let request): handle(request, into: &output)
          }
        case .authentication(let logins):
          guard let attempt = try partial.next(Authentication.self, from: input, &consumed) else {
            return (consumed, .receive)
          }
          handle(attempt, expecting: logins, into: &output)
        case .request:
          guard let request = try partial.next(Request.self, from: input, &consumed) else {
            return (consumed, .receive)
          }
          handle(request, into: &output)
        case .connecting(let destination):
          return (consumed, .connect(destination))
        case .associating(let client):
          return (consumed, .associate(client))
        case .binding(let peer), .accepting(let peer):
          return (consumed, .bind(peer))
        case .rejected:
          return (consumed, .reject)
        }
      } catch {
        handle(error, into: &output)
      }
    }
  }

  /// Answers the request after `.connect`, `.associate` or `.bind`; any code but `succeeded` ends the
  /// handshake, and the connection is to be closed.
  ///
  /// `bound` is our side of the connection to the target, or the relay; zeros if there is none. SOCKS4 has
  /// one code for all failures, and no room for an IPv6 address.
  package mutating func reply(
    _ code: ReplyCode, bound: SocketAddress, into output: inout OutputSpan<UInt8>
  ) {
    switch state {
    case .connecting, .associating, .accepting: break
    case .binding(let peer): state = .accepting(peer)
    case .opening, .authentication, .request, .rejected:
      preconditionFailure("there is no request to answer")
    }
    encode(code, bound: bound, into: &output)
    if code != .succeeded { state = .rejected(.refused(code)) }
  }

  // MARK: Messages

  private mutating func handle(_ greeting: Greeting, into output: inout OutputSpan<UInt8>) {
    let method = logins == nil ? Method.noAuthentication : .usernamePassword
    guard greeting.offers(method) else {
      MethodSelection(method: .noAcceptable).encode(into: &output)
      state = .rejected(.noAcceptableMethod)
      return
    }
    MethodSelection(method: method).encode(into: &output)
    state = logins.map(State.authentication) ?? .request
  }

  private mutating func handle(
    _ attempt: Authentication, expecting logins: Logins,
    into output: inout OutputSpan<UInt8>
  ) {
    let isAccepted = logins.accept(attempt)
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
    case .bind where listens:
      guard let peer = request.destination else {
        handle(.invalidName, into: &output)
        return
      }
      state = .binding(peer)
    case .bind, .udpAssociate, .other:
      refuse(.commandNotSupported, .commandNotSupported(request.command), into: &output)
    }
  }

  private mutating func handle(_ request: SOCKS4Request, into output: inout OutputSpan<UInt8>) {
    isSOCKS4 = true
    guard logins == nil else {
      refuse(.notAllowed, .noAcceptableMethod, into: &output)
      return
    }
    if request.command == .connect || request.command == .bind && listens {
      guard let destination = request.destination else {
        handle(.invalidName, into: &output)
        return
      }
      state = request.command == .connect ? .connecting(destination) : .binding(destination)
    } else {
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
    case .userIDTooLong:
      isSOCKS4 = true
      refuse(.generalFailure, rejection, into: &output)
    case .wrongVersion, .methodNeverOffered, .trailingBytes, .notHTTP, .responseTooLong,
      .wrongReplyVersion, .wrongSecurityVersion, .unexpectedSecurityMessage,
      .malformedProtectionLevel, .unprotectedMessage:
      state = .rejected(rejection)
    }
  }

  private mutating func refuse(
    _ code: ReplyCode, _ rejection: Rejection, into output: inout OutputSpan<UInt8>
  ) {
    encode(code, bound: SocketAddress(.v4(.any), 0), into: &output)
    state = .rejected(rejection)
  }

  private func encode(
    _ code: ReplyCode, bound: SocketAddress, into output: inout OutputSpan<UInt8>
  ) {
    if isSOCKS4 {
      SOCKS4Reply.encode(SOCKS4ReplyCode(code), bound: bound, into: &output)
    } else {
      Reply.encode(code, bound: bound, into: &output)
    }
  }
}
