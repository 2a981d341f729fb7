internal import Addressing
internal import DataPlane
internal import LinuxIO
internal import SOCKS

/// A target of our own that the upstream is asked to connect us to, at the address where it sees us: what
/// arrives there and what comes back is known for certain, where the upstream can reach us at all.
struct Witness {
  /// How long the answer is held back behind the end of the question, so that an upstream that drops it
  /// has the time to.
  private static let holdBack = Timeout(milliseconds: 200)
  /// How long the end of the question is waited for: some never pass it on.
  private static let patience = Timeout(milliseconds: 500)
  /// How long the upstream's connection is waited for behind its reply.
  private static let arrivalPatience = Timeout(milliseconds: 1000)

  enum Testimony: Hashable, Sendable {
    /// The question has arrived, and the answer has come back.
    case answered
    /// The upstream has connected to us, and one of the two was lost: the question only if it was early.
    case lost
  }

  /// Nil if the upstream does not reach us. Blocks up to the deadline.
  static func ask(
    _ asking: Asking, _ upstream: Upstream, mark: UInt32?, until deadline: Instant
  ) -> Testimony? {
    guard let connection = try? ProbeConnection(to: upstream, mark: mark, deadline: deadline),
      let listener = try? StreamSocket.listen(
        on: SocketAddress(connection.localAddress, 0), StreamSocket.ListenOptions(mark: mark)),
      let place = listener.localAddress
    else { return nil }
    // Nobody else knows it. The answer is told from it by its order.
    let question = System.randomBytes(16)
    let outcome = connection.request(to: .address(place), asking, question)
    guard case .replied(.succeeded) = outcome,
      let arrived = accept(from: listener, until: min(deadline, .now() + arrivalPatience))
    else { return nil }
    if asking.write == nil, !connection.send(question) { return .lost }
    if asking == .ending { connection.endSending() }
    guard read(arrived, question.count, until: min(deadline, .now() + patience)) == question else {
      // What is not early every upstream passes on: somebody else has connected.
      return asking.write == nil ? nil : .lost
    }
    if asking == .ending {
      _ = arrived.wait(for: .readable, until: min(deadline, .now() + patience))
      pause(holdBack)
    }
    let answer = Array(question.reversed())
    _ = answer.withUnsafeBytes { send(arrived.rawValue, $0) }
    var received: [UInt8] = []
    connection.deadline = min(deadline, .now() + arrivalPatience)
    while received.count < answer.count, case .bytes(let bytes) = connection.receive() {
      received += bytes
    }
    return received == answer ? .answered : .lost
  }

  private static func accept(
    from listener: borrowing Descriptor, until deadline: Instant
  ) -> Descriptor? {
    while listener.wait(for: .readable, until: deadline) {
      if case .connection(let socket, _) = StreamSocket.accept(from: listener) { return socket }
    }
    return nil
  }

  /// The first bytes, fewer at the end of the stream or at the deadline.
  private static func read(
    _ socket: borrowing Descriptor, _ count: Int, until deadline: Instant
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    let descriptor = socket.rawValue
    while bytes.count < count, socket.wait(for: .readable, until: deadline) {
      let part: [UInt8]? = withUnsafeTemporaryAllocation(byteCount: count, alignment: 1) { room in
        guard case .bytes(let count) = receive(descriptor, into: room), count > 0 else {
          return nil
        }
        return Array(room[..<count])
      }
      guard let part else { break }
      bytes += part
    }
    return bytes
  }
}
