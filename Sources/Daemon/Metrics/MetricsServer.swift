internal import Addressing
internal import Configuration
internal import LinuxIO
internal import Synchronization

/// Where Prometheus reads metrics: a minimal HTTP server with one answer for each connection, each on a
/// thread of its own and with a deadline for all of it, so that nobody can hold up the process or, for longer
/// than that, another.
final class MetricsServer: Sendable {
  /// At once; a further one is turned away, and as many of those are told so. The next ones wait to be accepted.
  static let maximumConnections = 8
  /// For a request to arrive, and for its answer to be taken.
  private static let patience = Timeout.seconds(5)
  /// For a client to hang up that has its answer, since what it still sends would have the kernel reset the
  /// connection, and the answer be lost.
  private static let lingering = Timeout.seconds(1)
  /// Before another attempt, when places, descriptors or threads have run out.
  private static let pauseInterval = Timeout(milliseconds: 50)

  private struct Connection {
    let descriptor: Int32
    let isTurnedAway: Bool
  }

  private struct State {
    /// By their numbers.
    var live: [Int: Connection] = [:]
    var next = 0
    var isStopping = false

    /// Whether a further one could not even be told.
    var isCrowded: Bool { live.count == 2 * maximumConnections }

    func count(isTurnedAway: Bool) -> Int {
      live.values.count { $0.isTurnedAway == isTurnedAway }
    }
  }

  let place: MetricsPlace
  private let door: Door
  private let state = Mutex(State())
  private let thread = Mutex<Thread?>(nil)
  private let ended = Semaphore()

  /// Opens it; nobody is answered before `start`. Throws as `SocketFile` and `StreamSocket.listen` do.
  /// - Parameter group: may use a Unix socket, beside root.
  init(at place: MetricsPlace, group: UInt32) throws(Errno) {
    self.place = place
    door = try Door(place, group: group)
  }

  /// - Parameter metrics: gives their text, on any thread.
  func start(_ metrics: @escaping @Sendable () -> String) throws(Errno) {
    let thread = try Thread(name: "sluice-metrics") { self.accept(metrics) }
    self.thread.withLock { $0 = thread }
  }

  /// Ends all connections; nothing the second time, or if it was not started.
  func stop() {
    guard let thread = thread.withLock({ $0.take() }) else { return }
    state.withLock { $0.isStopping = true }
    door.close()
    thread.join()
    let count = state.withLock { state in
      for connection in state.live.values { LocalSocket.shutdown(connection.descriptor) }
      return state.live.count
    }
    let deadline = Instant.now() + Self.patience
    for _ in 0..<count where !ended.wait(until: deadline) { return }
  }

  deinit { door.close() }

  var bound: RunStatus.Limit {
    RunStatus.Limit(
      name: "metrics connections", used: state.withLock { $0.count(isTurnedAway: false) },
      limit: Self.maximumConnections)
  }

  // MARK: Connections

  private func accept(_ metrics: @escaping @Sendable () -> String) {
    while true {
      door.wait()
      let (isStopping, isCrowded) = state.withLock { ($0.isStopping, $0.isCrowded) }
      if isStopping { return }
      if isCrowded {
        pause(Self.pauseInterval)
        continue
      }
      do {
        if let socket = try door.accept() { begin(socket, metrics) }
      } catch {
        pause(Self.pauseInterval)
      }
    }
  }

  private func begin(
    _ socket: consuming Descriptor, _ metrics: @escaping @Sendable () -> String
  ) {
    let descriptor = socket.rawValue
    let isFull = state.withLock { $0.count(isTurnedAway: false) == Self.maximumConnections }
    let number = add(Connection(descriptor: descriptor, isTurnedAway: isFull))
    _ = socket.take()
    do {
      try Thread(name: "sluice-scrape") {
        let socket = Descriptor(owning: descriptor)
        if isFull {
          Self.finish(HTTPResponse(.unavailable), to: socket)
        } else {
          Self.serve(socket, metrics)
        }
        // As long as it is live the number is its own.
        self.end(number)
        _ = consume socket
      }.detach()
    } catch {
      end(number)
      _ = Descriptor(owning: descriptor)
    }
  }

  /// The number of a new connection.
  private func add(_ connection: Connection) -> Int {
    state.withLock { state in
      state.next += 1
      state.live[state.next] = connection
      return state.next
    }
  }

  private func end(_ number: Int) {
    let isStopping = state.withLock { state in
      state.live[number] = nil
      return state.isStopping
    }
    if isStopping { ended.signal() }
  }

  private static func serve(_ socket: borrowing Descriptor, _ metrics: () -> String) {
    if let response = response(to: socket, metrics) { finish(response, to: socket) }
  }

  /// Sends what is the last on a connection, and waits for its client to hang up.
  private static func finish(_ response: HTTPResponse, to socket: borrowing Descriptor) {
    guard send(response.bytes, to: socket, until: .now() + patience) else { return }
    StreamSocket.shutdownSending(socket.rawValue)
    let deadline = Instant.now() + lingering
    var rest = [UInt8](repeating: 0, count: HTTPRequest.maximumBytes)
    while Instant.now() < deadline, let count = receive(&rest, from: socket, until: deadline),
      count > 0
    {}
  }

  /// Nil for a client that has gone.
  private static func response(
    to socket: borrowing Descriptor, _ metrics: () -> String
  ) -> HTTPResponse? {
    let deadline = Instant.now() + patience
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: HTTPRequest.maximumBytes)
    while true {
      guard let count = receive(&buffer, from: socket, until: deadline) else {
        return HTTPResponse(.timedOut)
      }
      guard count > 0 else { return nil }
      bytes += buffer[..<count]
      switch HTTPRequest.decode(from: bytes) {
      case .needsMore: continue
      case .refused(let status): return HTTPResponse(status)
      case .request(let request): return HTTPResponse(to: request, metrics: metrics)
      }
    }
  }

  // MARK: Bytes

  /// How many have been received, 0 at the end, nil at the deadline.
  private static func receive(
    _ buffer: inout [UInt8], from socket: borrowing Descriptor, until deadline: Instant
  ) -> Int? {
    while socket.wait(for: .readable, until: deadline) {
      let number = socket.rawValue
      switch buffer.withUnsafeMutableBytes({ LinuxIO.receive(number, into: $0) }) {
      case .bytes(let count): return count
      case .wouldBlock: continue
      case .failed: return 0
      }
    }
    return nil
  }

  /// Whether all of it was taken.
  private static func send(
    _ bytes: [UInt8], to socket: borrowing Descriptor, until deadline: Instant
  ) -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
      let number = socket.rawValue
      switch rest.withUnsafeBytes({ LinuxIO.send(number, $0) }) {
      case .bytes(let count): rest = rest.dropFirst(count)
      case .wouldBlock:
        guard socket.wait(for: .writable, until: deadline) else { return false }
      case .failed: return false
      }
    }
    return true
  }
}

/// What is listened on.
private enum Door: ~Copyable, Sendable {
  case file(SocketFile)
  case address(Descriptor)

  init(_ place: MetricsPlace, group: UInt32) throws(Errno) {
    switch place {
    case .file(let path): self = .file(try SocketFile(path, group: group))
    case .address(let address):
      var options = StreamSocket.ListenOptions()
      options.reusePort = false
      options.backlog = Int32(MetricsServer.maximumConnections)
      self = .address(try StreamSocket.listen(on: address, options))
    }
  }

  /// Waits for a connection, or `close`.
  borrowing func wait() {
    switch self {
    case .file(let file): file.wait()
    case .address(let socket): _ = socket.wait(for: .readable, until: .distantFuture)
    }
  }

  /// The next connection; nil if there is none.
  borrowing func accept() throws(Errno) -> Descriptor? {
    switch self {
    case .file(let file): return try file.accept()
    case .address(let socket):
      switch StreamSocket.accept(from: socket) {
      case .connection(let connection, peer: _): return connection
      case .none: return nil
      case .aborted: return nil
      case .failed(let error): throw error
      }
    }
  }

  /// Takes no more connections: `wait` ends, on every thread.
  borrowing func close() {
    switch self {
    case .file(let file):
      file.remove()
      file.shutdown()
    case .address(let socket): LocalSocket.shutdown(socket.rawValue)
    }
  }
}
