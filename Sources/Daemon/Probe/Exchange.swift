internal import Addressing
internal import DNS
internal import DataPlane
internal import LinuxIO
internal import SOCKS

/// Why an upstream has not done what it was asked for.
enum Refusal: Hashable, Sendable {
  /// What its reply says: REP of SOCKS5, CD of SOCKS4, the status of HTTP.
  case code(Int, String)
  /// It ended the connection in place of a reply.
  case closed
  /// Its protocol has no words for it.
  case notOffered
  /// It said nothing in time.
  case silence
  /// Anything else, in words.
  case trouble(String)

  /// Whether it is an answer in the words of the upstream's protocol.
  var isReply: Bool {
    if case .code = self { true } else { false }
  }

  /// Nil if it has done it.
  /// - Parameter failure: of the handshake, where there was one.
  init?(_ outcome: UpstreamProbe.Outcome, _ failure: HandshakeFailure?) {
    switch outcome {
    case .replied(.succeeded): return nil
    case .cannotConnect(let error): self = .trouble("\(error)")
    case .failed(_, isTimeout: true), .stuck(_, isTimeout: true, _): self = .silence
    case .replied(let code):
      self = failure.map { Refusal($0) } ?? .code(Int(code.rawValue), "\(code)")
    case .failed(let reason, isTimeout: false), .stuck(let reason, isTimeout: false, _):
      self.init(reason)
    }
  }

  init(_ failure: HandshakeFailure) {
    switch failure {
    case .refused(let code): self = .code(Int(code.rawValue), "\(code)")
    case .refusedByHTTP(let status): self = .code(Int(status.code), "\(status)")
    case .refusedBySOCKS4(let code): self = .code(Int(code.rawValue), "\(code)")
    case .closed: self = .closed
    case .destinationNotSupported, .datagramsNotSupported, .bindNotSupported: self = .notOffered
    case .credentialsNotSupported, .authenticationRejected, .noAcceptableMethod, .securityFailed,
      .securityAborted, .protectionNotAcceptable, .protocolViolation:
      self = .trouble("\(failure)")
    }
  }
}

/// What became of one connection to a target.
enum Exchange: Hashable, Sendable {
  /// The target has answered, so many microseconds behind the question.
  case answered(microseconds: Int)
  /// There was nothing to ask it; the reply came so many microseconds behind the request.
  case connected(microseconds: Int)
  /// The connection ended in place of the answer, so many microseconds behind the question.
  case ended(microseconds: Int)
  /// Neither came.
  case silence
  /// There was no connection.
  case refused(Refusal)

  var isConnected: Bool {
    if case .refused = self { false } else { true }
  }

  var isAnswered: Bool {
    if case .answered = self { true } else { false }
  }
}

/// A question that every resolver can answer, at once: names below `example` do not exist (RFC 2606,
/// section 2), which it knows from the root if not by itself. Whatever it answers will do.
struct ResolverQuestion: Sendable {
  /// As it goes by UDP.
  let message: [UInt8]
  /// As it goes into a stream (RFC 1035, section 4.2.2).
  var framed: [UInt8] { [UInt8(message.count >> 8), UInt8(message.count & 0xFF)] + message }
  private let query: Query

  init() {
    var message = System.randomBytes(2)
    // Recursion desired; one question; type A, class IN (RFC 1035, section 4.1).
    message += [1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    for label in ["www", "example", ""] {
      message.append(UInt8(label.utf8.count))
      message += Array(label.utf8)
    }
    message += [0, 1, 0, 1]
    self.message = message
    guard let query = Query(message) else { preconditionFailure("a query is one") }
    self.query = query
  }

  /// Whether bytes are an answer to it, with its id.
  func isAnswered(by answer: [UInt8]) -> Bool {
    answer.prefix(2) == message.prefix(2) && query.isAnswered(by: answer)
  }
}

/// How a question goes out.
enum Asking: Hashable, Sendable {
  /// When there is a connection.
  case afterwards
  /// Before there is a reply.
  case early(EarlyWrite)
  /// When there is a connection, and right behind it the end of what we send.
  case ending
}

extension Asking {
  /// Nil if it is not early.
  var write: EarlyWrite? {
    if case .early(let write) = self { write } else { nil }
  }
}

extension ProbeConnection {
  /// Asks for a target, with a question if that is early.
  func request(
    to target: Endpoint, _ asking: Asking, _ question: [UInt8]
  ) -> UpstreamProbe.Outcome {
    request(
      to: target, mode: asking.write == .withHandshake ? .pipelined : .stepwise,
      early: asking.write.map { EarlyBytes(question, $0) })
  }
}

extension Exchange {
  /// Asks a resolver through the upstream; blocks up to the deadline.
  init(
    _ asking: Asking, _ upstream: Upstream, resolver: Endpoint, mark: UInt32?,
    until deadline: Instant
  ) {
    self.init(asking, upstream, to: resolver, isResolver: true, mark: mark, until: deadline)
  }

  /// Connects to a target through the upstream, and asks it if it is a resolver; blocks up to the deadline.
  init(
    connecting upstream: Upstream, to target: Endpoint, isResolver: Bool, until deadline: Instant
  ) {
    self.init(
      .afterwards, upstream, to: target, isResolver: isResolver, mark: nil, until: deadline)
  }

  private init(
    _ asking: Asking, _ upstream: Upstream, to target: Endpoint, isResolver: Bool, mark: UInt32?,
    until deadline: Instant
  ) {
    let connection: ProbeConnection
    do {
      connection = try ProbeConnection(to: upstream, mark: mark, deadline: deadline)
    } catch {
      self = .refused(.trouble("\(error)"))
      return
    }
    let question = ResolverQuestion()
    let start = ContinuousClock.now
    let outcome = connection.request(to: target, asking, question.framed)
    if let refusal = Refusal(outcome, connection.failure) {
      self = .refused(refusal)
    } else if !isResolver {
      self = .connected(microseconds: start.microsecondsToNow)
    } else {
      self.init(question, asking, on: connection)
    }
  }

  /// Asks a resolver on a connection that leads to it.
  init(_ asking: Asking, on connection: ProbeConnection) {
    self.init(ResolverQuestion(), asking, on: connection)
  }

  private init(_ question: ResolverQuestion, _ asking: Asking, on connection: ProbeConnection) {
    let start = ContinuousClock.now
    if asking.write == nil {
      guard connection.send(question.framed) else {
        self = .ended(microseconds: start.microsecondsToNow)
        return
      }
    }
    if asking == .ending { connection.endSending() }
    var reassembler = MessageReassembler()
    while true {
      switch connection.receive() {
      case .silence:
        self = .silence
        return
      case .end:
        self = .ended(microseconds: start.microsecondsToNow)
        return
      case .bytes(let bytes):
        var consumed = 0
        guard let message = reassembler.next(from: bytes.span, &consumed) else { continue }
        let microseconds = start.microsecondsToNow
        // Anything else is no resolver's.
        self =
          question.isAnswered(by: message)
          ? .answered(microseconds: microseconds) : .ended(microseconds: microseconds)
        return
      }
    }
  }
}
