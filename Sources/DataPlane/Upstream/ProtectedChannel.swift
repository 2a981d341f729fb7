internal import Addressing
internal import GSSAPI
internal import LinuxIO
internal import SOCKS

/// A connection to an upstream by GSSAPI (RFC 1961): its handshake, then both directions of its stream
/// in protected messages.
///
/// It never holds more than one message for each side and a part of the next: nothing is read from a
/// side before the other has taken what came earlier. Buffers are kept only while there is something in
/// them.
///
/// In a chain it may run inside the channel of a hop before it, its carrier: its messages are then what
/// the carrier's messages hold.
final class ProtectedChannel {
  /// What a message to the upstream carries at most. Messages of 40,000 bytes are known to be taken by
  /// Dante; a token adds less than 100 bytes.
  static let messageBytes = 32 * 1024

  let context: SecurityContext
  private let carrier: ProtectedChannel?
  private var handshake: SecurityHandshake
  /// Messages to the upstream that the socket has not taken.
  private var outgoing = UnsentBytes()
  /// For the application, as it came out of messages.
  private var incoming = UnsentBytes()
  /// Begins with the head of a message; room for the longest.
  private var messages = ArrivedBytes(capacity: SecurityMessage.maximumBytes)

  init(
    _ command: SOCKS.Command, to destination: Endpoint, _ offer: SecurityOffer,
    inside carrier: ProtectedChannel?
  ) {
    self.carrier = carrier
    context = SecurityContext(service: offer.service)
    handshake = SecurityHandshake(command, destination: destination, offer)
    handshake.start(into: &outgoing.bytes)
  }

  // MARK: The handshake

  var bound: (address: Endpoint?, port: UInt16) {
    (handshake.boundAddress, handshake.boundPort)
  }

  var peer: Endpoint? { handshake.peer }

  /// Whether a step is being made elsewhere: the context is not to be touched meanwhile.
  var isStepping: Bool { handshake.isStepping }
  /// What the server has said for the step.
  var token: [UInt8] { handshake.token }
  /// How the last step ended the handshake, if it did.
  private(set) var failedStep: HandshakeFailure?
  /// Whether every byte has to go through this channel, now that it is established.
  var isProtected: Bool { handshake.level != .none }

  /// What the server is to say next.
  var phase: HandshakePhase? { handshake.phase }

  private var isConfidential: Bool { handshake.level == .confidentiality }

  func receive(_ input: Span<UInt8>) -> (consumed: Int, action: ClientHandshake.Action) {
    handshake.receive(input, context, into: &outgoing.bytes)
  }

  func receiveEnd() -> HandshakeFailure { handshake.receiveEnd() }

  /// What an end of the stream would mean now.
  var presentEnd: HandshakeFailure {
    var handshake = handshake
    return handshake.receiveEnd()
  }

  /// Takes the result of the step that `receive` has asked for.
  func handleStep(_ result: Result<SecurityStep, SecurityFailure>) {
    handshake.handleStep(result, context, into: &outgoing.bytes)
    let nothing: [UInt8] = []
    if case .failed(let failure) = receive(nothing.span).action { failedStep = failure }
  }

  /// Makes the step here, which may block.
  func makeStep() {
    handleStep(Result { () throws(SecurityFailure) in try context.step(token) })
  }

  /// Sends what is unsent; `.bytes` when nothing is left.
  func flush(to socket: Int32) -> Transfer {
    guard let carrier else { return outgoing.flush(to: socket) }
    if !outgoing.isEmpty {
      do {
        try outgoing.withUnsent { (bytes) throws(HandshakeFailure) in try carrier.wrap(bytes) }
      } catch {
        return .failed(.connectionReset)
      }
      outgoing.dropFirst(outgoing.count)
    }
    return carrier.flush(to: socket)
  }

  /// The handshake is through: takes what came behind the reply, messages that are protected like it, and
  /// what was in its own.
  func begin(with rest: UnsafeRawBufferPointer) {
    incoming.bytes += handshake.rest
    precondition(take(rest) == rest.count, "more behind a reply than can be read at once")
  }

  /// Takes bytes that have come from the socket, as many as there is room for; how many.
  func take(_ bytes: UnsafeRawBufferPointer) -> Int {
    carrier?.take(bytes) ?? messages.append(bytes)
  }

  // MARK: The stream

  /// Whether nothing waits for the application.
  var isDelivered: Bool { incoming.isEmpty }
  /// How many bytes do.
  var undeliveredCount: Int { incoming.count }
  /// Whether all that was taken from the application has been sent.
  var isSent: Bool { outgoing.isEmpty && carrier?.isSent ?? true }
  /// Whether the upstream's stream ends in the middle of a message when it ends now.
  var isTruncated: Bool {
    !messages.isEmpty || carrier.map { !$0.isDelivered || $0.isTruncated } ?? false
  }

  /// Sends what came out of messages; `.bytes` when nothing is left.
  func deliver(to socket: Int32) -> Transfer { incoming.flush(to: socket) }

  /// Wraps bytes for the upstream, which has taken everything before.
  func wrap(_ bytes: UnsafeRawBufferPointer) throws(HandshakeFailure) {
    var rest = bytes[...]
    while !rest.isEmpty {
      try encode(
        UnsafeRawBufferPointer(rebasing: rest.prefix(Self.messageBytes)), into: &outgoing.bytes)
      rest = rest.dropFirst(Self.messageBytes)
    }
  }

  private func encode(
    _ bytes: UnsafeRawBufferPointer, into output: inout [UInt8]
  ) throws(HandshakeFailure) {
    output.reserveCapacity(output.count + bytes.count + 128)
    let start = output.count
    SecurityMessage.encodeHead(.data, count: 0, into: &output)
    do {
      try context.wrap(bytes, confidentially: isConfidential, into: &output)
    } catch {
      throw .securityFailed(error)
    }
    let count = output.count - start - SecurityMessage.headBytes
    precondition(count <= SecurityMessage.maximumTokenBytes, "a token has outgrown its message")
    output[start + 2] = UInt8(count >> 8)
    output[start + 3] = UInt8(count & 0xFF)
  }

  /// Where more of the upstream's bytes go; `didReceive` tells how many came. There is some as long as
  /// `unwrapNext` wants more.
  var room: UnsafeMutableRawBufferPointer { carrier?.room ?? messages.room }

  func didReceive(_ count: Int) {
    if let carrier { carrier.didReceive(count) } else { messages.didReceive(count) }
  }

  /// Gives the memory back that nothing is in.
  func releaseIdle() {
    outgoing.releaseIdle()
    incoming.releaseIdle()
    messages.releaseIdle()
    carrier?.releaseIdle()
  }

  /// Unwraps the next message, if all of it is there: then its bytes are what waits for the
  /// application. False if more has to come.
  func unwrapNext() throws(HandshakeFailure) -> Bool {
    while try !unwrapArrived() {
      guard let carrier else { return false }
      if carrier.isDelivered, try !carrier.unwrapNext() { return false }
      carrier.deliver(to: &messages)
    }
    return true
  }

  private func unwrapArrived() throws(HandshakeFailure) -> Bool {
    let arrived = messages.bytes
    guard let count = try tokenCount(arrived),
      arrived.count >= SecurityMessage.headBytes + count
    else { return false }
    let end = SecurityMessage.headBytes + count
    try decode(
      UnsafeRawBufferPointer(rebasing: arrived[SecurityMessage.headBytes..<end]),
      into: &incoming.bytes)
    messages.drop(end)
    return true
  }

  /// Hands what waits for the application to `body` instead of a socket.
  func takeDelivery(_ body: (UnsafeRawBufferPointer) -> Void) {
    takePart { bytes in
      body(bytes)
      return (bytes.count, ())
    }
  }

  /// The same, where `body` tells how many bytes it has taken.
  func takePart<Result>(_ body: (UnsafeRawBufferPointer) -> (count: Int, Result)) -> Result {
    let (count, result) = incoming.withUnsent(body)
    incoming.dropFirst(count)
    return result
  }

  /// Moves what comes out of messages here into those of the channel inside, as far as there is room.
  private func deliver(to messages: inout ArrivedBytes) {
    let count = incoming.withUnsent { messages.append($0) }
    incoming.dropFirst(count)
  }

  private func decode(
    _ token: UnsafeRawBufferPointer, into output: inout [UInt8]
  ) throws(HandshakeFailure) {
    let wasEncrypted: Bool
    do {
      wasEncrypted = try context.unwrap(token, into: &output)
    } catch {
      throw .securityFailed(error)
    }
    guard wasEncrypted || !isConfidential else { throw .protocolViolation(.unprotectedMessage) }
  }

  // MARK: Datagrams

  /// From now on messages are datagrams, which may be lost or overtake each other.
  func expectDatagrams() { context.takesAnyOrder = true }

  /// The message that carries a datagram.
  func message(with datagram: [UInt8]) throws(HandshakeFailure) -> [UInt8] {
    var message: [UInt8] = []
    try datagram.span.withUnsafeBytes { (datagram) throws(HandshakeFailure) in
      try encode(datagram, into: &message)
    }
    return message
  }

  /// The datagram in a message.
  func bytes(in message: UnsafeRawBufferPointer) throws(HandshakeFailure) -> [UInt8] {
    guard let count = try tokenCount(message),
      message.count == SecurityMessage.headBytes + count
    else { throw .protocolViolation(.trailingBytes) }
    var bytes: [UInt8] = []
    try decode(
      UnsafeRawBufferPointer(rebasing: message[SecurityMessage.headBytes...]), into: &bytes)
    return bytes
  }

  /// The length of the token in the message that has begun to arrive; nil before that is known.
  private func tokenCount(_ arrived: UnsafeRawBufferPointer) throws(HandshakeFailure) -> Int? {
    let message: SecurityMessage?
    do {
      message = try SecurityMessage.decode(from: arrived.bindMemory(to: UInt8.self).span)
    } catch {
      throw .protocolViolation(error)
    }
    switch message {
    case nil: return nil
    case .abort: throw .securityAborted
    case .token(.data, let count): return count
    case .token(let purpose, _):
      throw .protocolViolation(.unexpectedSecurityMessage(purpose.rawValue))
    }
  }
}

/// Bytes that a socket has not taken yet.
struct UnsentBytes {
  /// Only appended to.
  var bytes: [UInt8] = []
  private var sentCount = 0

  var count: Int { bytes.count - sentCount }
  var isEmpty: Bool { count == 0 }

  /// Hands what is left to `body`.
  func withUnsent<Result, Failure>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try bytes.span.withUnsafeBytes { (bytes) throws(Failure) in
      try body(UnsafeRawBufferPointer(rebasing: bytes[sentCount...]))
    }
  }

  /// The first `count` of what is left have gone.
  mutating func dropFirst(_ count: Int) {
    sentCount += count
    guard isEmpty else { return }
    bytes.removeAll(keepingCapacity: true)
    sentCount = 0
  }

  /// Sends what is left; `.bytes` when that is all of it.
  mutating func flush(to socket: Int32) -> Transfer {
    while !isEmpty {
      let result = withUnsent { send(socket, $0) }
      switch result {
      case .bytes(let count): dropFirst(count)
      case .wouldBlock, .failed: return result
      }
    }
    return .bytes(0)
  }

  mutating func releaseIdle() {
    if isEmpty { self = UnsentBytes() }
  }
}

/// Bytes that have arrived and wait to be whole, in memory that exists only while there are any.
struct ArrivedBytes: ~Copyable {
  private let capacity: Int
  private var memory: UnsafeMutableRawBufferPointer?
  private var start = 0
  private var end = 0

  init(capacity: Int) { self.capacity = capacity }

  deinit { memory?.deallocate() }

  var isEmpty: Bool { start == end }

  /// They stay where they are until the next change.
  var bytes: UnsafeRawBufferPointer {
    guard let memory else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    return UnsafeRawBufferPointer(rebasing: memory[start..<end])
  }

  /// All that can be taken besides what is there.
  var room: UnsafeMutableRawBufferPointer {
    mutating get {
      let memory = memory ?? .allocate(byteCount: capacity, alignment: 64)
      if start > 0 {
        memory.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[start..<end]))
        (start, end) = (0, end - start)
      }
      self.memory = memory
      return UnsafeMutableRawBufferPointer(rebasing: memory[end...])
    }
  }

  /// The first `count` bytes of `room` have been filled.
  mutating func didReceive(_ count: Int) { end += count }

  /// Takes as many as there is room for; how many.
  mutating func append(_ bytes: UnsafeRawBufferPointer) -> Int {
    guard !bytes.isEmpty else { return 0 }
    let room = room
    let count = min(room.count, bytes.count)
    room.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
    end += count
    return count
  }

  /// Drops the first `count` bytes.
  mutating func drop(_ count: Int) { start += count }

  mutating func releaseIdle() {
    guard isEmpty else { return }
    memory?.deallocate()
    memory = nil
    (start, end) = (0, 0)
  }
}
