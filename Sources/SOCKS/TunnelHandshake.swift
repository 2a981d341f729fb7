package import Addressing

/// The client's side of one HTTP CONNECT: request, status line, fields, empty line.
///
///     ready ──start──▶ statusLine ──2xx──▶ fields ──empty line──▶ established
///                        ▲   │                │
///                        │   └─1xx─▶ fields ──┘ (of an informational response)
///                        └────────empty line──┘
///                  statusLine ──any other status──▶ failed
///
/// Nothing of the response is kept but its status. A failure ends at that: what follows tells nothing
/// more. Content-Length and Transfer-Encoding of a 2xx mean nothing (RFC 9110, section 9.3.6). A lone LF
/// ends a line too (RFC 9112, section 2.2).
///
/// The machine has no socket and no clock. Once it has ended it repeats how, and takes no bytes.
package struct TunnelHandshake: Sendable {
  package typealias Action = ClientHandshake.Action

  /// The room that a request needs in its output.
  package static let maximumOutputBytes = TunnelRequest.maximumBytes
  /// What comes before the tunnel at most, all responses together.
  package static let maximumResponseBytes = 8 * 1024

  private enum State {
    case ready
    /// The part of `statusLine` that has been there.
    case statusLine(offset: Int, code: UInt16)
    /// `lineIsEmpty` while no byte of the line has been there but a CR.
    case fields(HTTPStatus, lineIsEmpty: Bool)
    case established
    case failed(HandshakeFailure)
  }

  /// How a response begins (RFC 9112, section 4): `d` a digit of any value, `s` one of the status.
  /// A space, or the line's end without a reason phrase, follows.
  private static let statusLine: StaticString = "HTTP/1.d sss"

  private var state = State.ready
  private var responseBytes = 0
  private let destination: Endpoint
  private let credentials: Credentials?

  /// Fails if no request can name the destination.
  package init(
    destination: Endpoint, credentials: Credentials?
  ) throws(HandshakeFailure) {
    guard TunnelRequest.canName(destination) else { throw .destinationNotSupported }
    self.destination = destination
    self.credentials = credentials
  }

  /// Writes the request; to be called once, before anything else.
  package mutating func start(into output: inout OutputSpan<UInt8>) {
    guard case .ready = state else { preconditionFailure("the handshake was started before") }
    TunnelRequest.encode(to: destination, credentials, into: &output)
    state = .statusLine(offset: 0, code: 0)
  }

  /// Takes bytes from the proxy, in whatever pieces they come. Nothing is ever to be sent behind the
  /// request.
  package mutating func receive(_ input: Span<UInt8>) -> (consumed: Int, action: Action) {
    var consumed = 0
    do throws(HandshakeFailure) {
      while true {
        switch state {
        case .ready:
          guard input.isEmpty else { throw .protocolViolation(.trailingBytes) }
          return (consumed, .receive)
        case .established: return (consumed, .established)
        case .failed(let failure): return (consumed, .failed(failure))
        case .statusLine, .fields: break
        }
        guard consumed < input.count else { return (consumed, .receive) }
        guard responseBytes < Self.maximumResponseBytes else {
          throw .protocolViolation(.responseTooLong)
        }
        let byte = input[consumed]
        consumed += 1
        responseBytes += 1
        try handle(byte)
      }
    } catch {
      state = .failed(error)
      return (consumed, .failed(error))
    }
  }

  /// The proxy closed or reset the connection in place of a response.
  package mutating func receiveEnd() -> HandshakeFailure {
    if case .failed(let earlier) = state { return earlier }
    if case .established = state {
      preconditionFailure("the end of an established connection is not ours")
    }
    let failure = HandshakeFailure.closed(.answer)
    state = .failed(failure)
    return failure
  }

  // MARK: Bytes

  private mutating func handle(_ byte: UInt8) throws(HandshakeFailure) {
    switch state {
    case .statusLine(let offset, let code):
      try handle(byte, offset, code)
    case .fields(let status, let lineIsEmpty):
      switch byte {
      case UInt8(ascii: "\n") where lineIsEmpty:
        state = status.isInformational ? .statusLine(offset: 0, code: 0) : .established
      case UInt8(ascii: "\n"): state = .fields(status, lineIsEmpty: true)
      case UInt8(ascii: "\r"): break
      default: state = .fields(status, lineIsEmpty: false)
      }
    case .ready, .established, .failed: preconditionFailure("no byte is expected")
    }
  }

  /// A byte of the status line at `offset`; `code` is what the digits of the status have been so far.
  private mutating func handle(
    _ byte: UInt8, _ offset: Int, _ code: UInt16
  ) throws(HandshakeFailure) {
    let isDigit = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    guard offset < Self.statusLine.utf8CodeUnitCount else {
      guard byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\r") || byte == UInt8(ascii: "\n")
      else { throw .protocolViolation(.notHTTP(byte)) }
      let status = HTTPStatus(code)
      guard status.isSuccess || status.isInformational else { throw .refusedByHTTP(status) }
      state = .fields(status, lineIsEmpty: byte == UInt8(ascii: "\n"))
      return
    }
    let expected = Self.statusLine.withUTF8Buffer { $0[offset] }
    var code = code
    switch expected {
    case UInt8(ascii: "s") where isDigit: code = code * 10 + UInt16(byte - UInt8(ascii: "0"))
    case UInt8(ascii: "d") where isDigit: break
    case byte where expected != UInt8(ascii: "s") && expected != UInt8(ascii: "d"): break
    default: throw .protocolViolation(.notHTTP(byte))
    }
    state = .statusLine(offset: offset + 1, code: code)
  }
}
