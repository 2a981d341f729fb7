internal import Addressing
internal import LinuxIO

/// Asks a `sluice run` of this host, by its control socket.
struct ControlClient: ~Copyable {
  /// Of a line of its: an audit has as many destinations as `Audit` tells apart.
  private static let maximumBytes = 32 << 20
  /// For each answer.
  private static let patience = Timeout.seconds(10)
  /// Before another attempt to connect, while many others want to.
  private static let pauseInterval = Timeout(milliseconds: 10)

  private let path: SocketPath
  /// Follows what to do, where the run cannot be reached: ", or …", or nothing.
  private let way: String
  private var lines: LineStream

  init(_ path: SocketPath, orElse way: String = "") throws(CommandFailure) {
    self.path = path
    self.way = way
    lines = LineStream(
      try Self.connect(to: path, orElse: way), maximumBytes: Self.maximumBytes)
  }

  /// For registration with `Epoll`.
  var rawValue: Int32 { lines.rawValue }

  /// The answer to a request; one that is not granted is a failure.
  /// - Parameter patience: for the answer.
  mutating func ask(
    _ request: ControlRequest, _ descriptors: [Int32] = [],
    patience: Timeout = ControlClient.patience
  ) throws(CommandFailure) -> ControlAnswer {
    let deadline = Instant.now() + patience
    let line: LineStream.Line?
    do throws(LineStream.Failure) {
      do throws(LineStream.Failure) {
        try lines.send(request.line, descriptors, until: deadline)
      } catch .ended {
        // What was said before it closed says why.
      }
      line = try lines.receive(until: deadline)
    } catch {
      guard error != .timedOut else { throw Self.silent(path, way) }
      throw CommandFailure(
        "the sluice run at \(path) has ended: start it again\(way)", .unavailable)
    }
    guard let line else { throw unreachable }
    guard let answer = ControlAnswer(line: line.bytes) else { throw misunderstood }
    if case .error(let reason) = answer {
      throw CommandFailure("the sluice run at \(path) refuses: \(reason)", .unavailable)
    }
    return answer
  }

  /// Blocks until the run closes the connection.
  mutating func waitForEnd() {
    do {
      while try lines.receive(until: .distantFuture) != nil {}
    } catch {
      // That is an end as well.
    }
  }

  /// Nothing more is asked.
  func end() { LocalSocket.shutdown(lines.rawValue) }

  var unreachable: CommandFailure { Self.unreachable(path, way) }

  var misunderstood: CommandFailure {
    CommandFailure(
      "what answers at \(path) is no sluice run of this version: start that again", .unavailable)
  }

  private static func connect(
    to path: SocketPath, orElse way: String
  ) throws(CommandFailure) -> Descriptor {
    let deadline = Instant.now() + patience
    while true {
      do {
        if let socket = try LocalSocket.connect(to: path) { return socket }
      } catch .accessDenied {
        throw CommandFailure(
          "you may not use the sluice run at \(path): add yourself to the group sluice and log in "
            + "again\(way)", .noPermission)
      } catch .noEntry {
        throw unreachable(path, way)
      } catch .connectionRefused {
        throw unreachable(path, way)
      } catch {
        throw CommandFailure("cannot reach a sluice run at \(path): \(error)", .unavailable)
      }
      guard Instant.now() < deadline else { throw silent(path, way) }
      pause(pauseInterval)
    }
  }

  private static func unreachable(_ path: SocketPath, _ way: String) -> CommandFailure {
    CommandFailure("no sluice run is reachable at \(path): start one\(way)", .unavailable)
  }

  private static func silent(_ path: SocketPath, _ way: String) -> CommandFailure {
    CommandFailure(
      "the sluice run at \(path) does not answer: start it again\(way)", .unavailable)
  }
}
