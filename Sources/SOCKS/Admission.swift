/// The client's side of a handshake up to where the server is ready for a request, whatever that will be:
/// greeting, and RFC 1929 where the server asks for it. `ClientHandshake.Mode.admitted` goes on from there.
///
///     ready ──start──▶ methodSelection ──02──▶ authentication ──status 0──▶ admitted
///                          │ └────────00──────────────┼───────────────────────▲
///                          └──anything else───────────┴──▶ failed
///
/// The machine has no socket and no clock. A byte that comes before it has been asked for is a violation.
package struct Admission: Sendable {
  package enum Action: Hashable, Sendable {
    /// Send what was written to the output, if anything, and wait for more.
    case receive
    case admitted
    case failed(HandshakeFailure)
  }

  /// The room that a step needs in its output.
  package static let maximumOutputBytes = max(
    Greeting.maximumOutputBytes, Authentication.maximumBytes)

  private enum State {
    case ready, methodSelection, authentication, admitted
    case failed(HandshakeFailure)
  }

  private var state = State.ready
  /// Both of the server's messages have two bytes.
  private var partial = MessageBuffer<2>()
  private let credentials: Credentials?

  package init(credentials: Credentials?) { self.credentials = credentials }

  /// As in `ClientHandshake`: 02 is offered only with credentials.
  private var greeting: Greeting {
    Greeting(offersNoAuthentication: true, offersUsernamePassword: credentials != nil)
  }

  /// Writes the first bytes to send; to be called once, before anything else.
  package mutating func start(into output: inout OutputSpan<UInt8>) {
    guard case .ready = state else { preconditionFailure("the admission was started before") }
    greeting.encode(into: &output)
    state = .methodSelection
  }

  /// Takes bytes from the server, in whatever pieces they come, and writes what is to be sent next.
  package mutating func receive(
    _ input: Span<UInt8>, into output: inout OutputSpan<UInt8>
  ) -> Action {
    var consumed = 0
    do throws(HandshakeFailure) {
      while true {
        switch state {
        case .methodSelection:
          guard let selection = try next(MethodSelection.self, from: input, &consumed) else {
            return .receive
          }
          try handle(selection, into: &output)
        case .authentication:
          guard let status = try next(AuthenticationStatus.self, from: input, &consumed) else {
            return .receive
          }
          guard status.isSuccess else { throw .authenticationRejected(status: status.status) }
          state = .admitted
        case .ready, .admitted:
          guard consumed == input.count else { throw .protocolViolation(.trailingBytes) }
          return .admitted
        case .failed(let failure): return .failed(failure)
        }
        if case .admitted = state { continue }
        guard consumed == input.count else { throw .protocolViolation(.trailingBytes) }
      }
    } catch {
      state = .failed(error)
      return .failed(error)
    }
  }

  private mutating func next<Value: Message>(
    _ type: Value.Type, from input: Span<UInt8>, _ consumed: inout Int
  ) throws(HandshakeFailure) -> Value? {
    do {
      return try partial.next(type, from: input, &consumed)
    } catch {
      throw .protocolViolation(error)
    }
  }

  private mutating func handle(
    _ selection: MethodSelection, into output: inout OutputSpan<UInt8>
  ) throws(HandshakeFailure) {
    if selection.method == .noAcceptable { throw .noAcceptableMethod }
    guard greeting.offers(selection.method) else {
      throw .protocolViolation(.methodNeverOffered(selection.method))
    }
    if selection.method == .usernamePassword, let credentials {
      Authentication.encode(credentials, into: &output)
      state = .authentication
    } else {
      state = .admitted
    }
  }
}
