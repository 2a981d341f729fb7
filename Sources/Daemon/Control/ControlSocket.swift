internal import Addressing
internal import LinuxIO
internal import Logging
internal import Synchronization

/// Where other processes of this host talk to a run: a Unix socket, whose mode and group say who may.
/// Each connection has a thread of its own, so that nobody can hold up the run or another.
final class ControlSocket: Sendable {
  /// At once; a further one is turned away.
  private static let maximumConnections = 64
  /// Before another attempt, when descriptors or threads have run out.
  private static let pauseInterval = Timeout(milliseconds: 50)
  /// For connections to notice that they have ended.
  private static let patience = Timeout.seconds(2)

  private struct State {
    /// Descriptors of connections, by their numbers.
    var live: [Int: Int32] = [:]
    var next = 0
    var isStopping = false
  }

  private let file: SocketFile
  private let service: NamespaceService
  private let board: StatusBoard
  private let flows: FlowBoard
  private let drainRequest: DrainRequest
  private let reloadRequest: ReloadRequest
  private let log: Logger
  private let state = Mutex(State())
  private let ended = Semaphore()
  private let thread = Mutex<Thread?>(nil)

  /// Opens it; nobody is answered before `start`. Throws as `SocketFile` does.
  init(
    _ path: SocketPath, group: UInt32, _ service: NamespaceService, _ board: StatusBoard,
    _ flows: FlowBoard, _ drainRequest: DrainRequest, _ reloadRequest: ReloadRequest, log: Logger
  ) throws(Errno) {
    file = try SocketFile(path, group: group)
    self.service = service
    self.board = board
    self.flows = flows
    self.drainRequest = drainRequest
    self.reloadRequest = reloadRequest
    self.log = log
  }

  func start() throws(Errno) {
    do {
      let thread = try Thread(name: "sluice-control") { self.accept() }
      self.thread.withLock { $0 = thread }
    } catch {
      file.remove()
      throw error
    }
  }

  /// Ends all connections, and what was done for them; nothing the second time. A client that keeps its
  /// thread from ending is not waited for.
  func stop() {
    guard let thread = thread.withLock({ $0.take() }) else { return }
    state.withLock { $0.isStopping = true }
    file.remove()
    file.shutdown()
    thread.join()
    let count = state.withLock { state in
      for descriptor in state.live.values { LocalSocket.shutdown(descriptor) }
      return state.live.count
    }
    let deadline = Instant.now() + Self.patience
    for _ in 0..<count where !ended.wait(until: deadline) { return }
  }

  /// Takes nobody new; what is open goes on.
  func drain() { service.drain() }

  /// Whether what connects for a program may still be accepted after `drain`.
  var isListening: Bool { service.isListening }

  /// Flows that are open.
  var liveSessions: UInt64 { service.liveSessions }

  private func status() -> RunStatus { board.status(limits) }

  /// Of connections here, and of programs that are carried.
  var limits: [RunStatus.Limit] {
    let connections = state.withLock { $0.live.count }
    return [
      RunStatus.Limit(
        name: "control connections", used: connections, limit: Self.maximumConnections),
      service.use,
    ]
  }

  private func accept() {
    while true {
      file.wait()
      if state.withLock({ $0.isStopping }) { return }
      do {
        if let socket = try file.accept() { begin(socket) }
      } catch {
        pause(Self.pauseInterval)
      }
    }
  }

  private func begin(_ socket: consuming Descriptor) {
    let descriptor = socket.rawValue
    let number: Int? = state.withLock { state in
      guard state.live.count < Self.maximumConnections else { return nil }
      state.next += 1
      state.live[state.next] = descriptor
      return state.next
    }
    guard let number else {
      connection(socket)
        .turnAway("there are \(Self.maximumConnections) connections already, and no more")
      return
    }
    _ = socket.take()
    do {
      try Thread(name: "sluice-client") {
        var connection = self.connection(Descriptor(owning: descriptor))
        connection.run()
        // As long as it is live the number is its own.
        self.end(number)
        connection.close()
      }.detach()
    } catch {
      end(number)
      _ = Descriptor(owning: descriptor)
    }
  }

  private func connection(_ socket: consuming Descriptor) -> ControlConnection {
    ControlConnection(
      socket, service, { self.status() }, flows, drainRequest, reloadRequest, log: log)
  }

  private func end(_ number: Int) {
    let isStopping = state.withLock { state in
      state.live[number] = nil
      return state.isStopping
    }
    if isStopping { ended.signal() }
  }
}
