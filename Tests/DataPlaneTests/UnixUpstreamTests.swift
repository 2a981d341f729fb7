import Addressing
import LinuxIO
import SOCKS
import Testing

@testable import DataPlane

/// Flows, associations and probes through a SOCKS server that listens on a Unix socket.
struct UnixUpstreamTests {
  private static let target = SocketAddress(.v4(IPv4Address(bits: 0xCB00_7107)), 443)

  /// A SOCKS server whose part the test plays, behind a Unix socket.
  private final class Server: Sendable {
    let place: TemporarySocketPath
    private let listener: Descriptor

    /// - Parameter backlog: one connection more than this waits to be accepted.
    init(at place: TemporarySocketPath = TemporarySocketPath(), backlog: Int32 = 8) throws {
      self.place = place
      listener = try LocalSocket.listen(at: place.path, backlog: backlog)
    }

    func accept() throws -> ScriptedConnection {
      guard listener.wait(for: .readable, until: .now() + .seconds(10)),
        let socket = LocalSocket.accept(listener)
      else { throw Silence() }
      return ScriptedConnection(socket: socket)
    }

    /// Connects for nothing but a place in the queue, which this one now is the last to have.
    func fillQueue() throws -> Descriptor {
      guard let first = try LocalSocket.connect(to: place.path) else { throw Silence() }
      let isFull = try LocalSocket.connect(to: place.path) == nil
      #expect(isFull)
      return first
    }
  }

  /// A worker, which runs on a thread of its own once flows have been given to it.
  private final class Engine {
    let upstream: Upstream
    let worker: Worker
    private let budget = DescriptorBudget(limit: 100)
    private let listener: Descriptor
    private var thread: Thread?

    init(_ place: TemporarySocketPath, connect: Timeout? = nil) throws {
      upstream = Upstream(at: .socket(place.path), credentials: nil)
      var configuration = DataPlaneConfiguration(workers: 1, listeners: [], descriptorLimit: 100)
      configuration.upstream = upstream
      configuration.datagrams = DatagramConfiguration(listeners: [])
      if let connect { configuration.timeouts.connect = connect }
      worker = try Worker(
        configuration, budget: budget, quota: AssociationQuota(maximum: 9, maximumPerClient: 9),
        resolver: Resolver(), carrier: nil, report: { _ in })
      listener = try StreamSocket.listen(on: SocketAddress(.v4(.loopback), 0), .init())
    }

    deinit { stop() }

    func run() throws { thread = try Thread(name: "worker") { [worker] in worker.run() } }

    func stop() {
      worker.mailbox.post(.stop)
      thread?.join()
      thread = nil
    }

    /// Has the worker take a flow to `target`; the application's end of it.
    func capture() throws -> ScriptedConnection {
      guard let address = listener.localAddress else { throw Errno.addressNotAvailable }
      let application = try StreamSocket.connect(to: address, mark: nil)
      guard listener.wait(for: .readable, until: .now() + .seconds(10)),
        case .connection(let socket, let peer) = StreamSocket.accept(from: listener)
      else { throw Silence() }
      let isGranted = budget.take(Worker.descriptorsPerSession)
      #expect(isGranted)
      let target = OriginalDestination(UnixUpstreamTests.target)
      worker.beginCaptured(socket, from: peer, to: target)
      return ScriptedConnection(socket: application)
    }

    /// Has the worker take the first datagram of a client.
    func captureDatagram(_ payload: [UInt8]) throws {
      let target = UnixUpstreamTests.target
      let client = SocketAddress(.v4(.loopback), 40_000)
      guard
        let index = worker.findAssociation(
          of: client, to: target, among: MemberSet(count: 1), by: .none)
      else { throw Silence() }
      let isWaiting = payload.withUnsafeBytes {
        worker.datagrams.associations.slots[index].pointee.waiting.append($0, to: target)
      }
      worker.datagrams.waitingBytes += payload.count
      #expect(isWaiting)
    }

    /// Waits until so many flows have failed in this way.
    func waitFor(_ count: UInt64, _ failure: Failure) {
      let deadline = Instant.now() + .seconds(10)
      while Instant.now() < deadline {
        var snapshot = Snapshot()
        worker.counters.read(into: &snapshot)
        if snapshot[failure] >= count { return }
        pause(Timeout(milliseconds: 1))
      }
    }

    /// What has been counted, once the worker has ended.
    var counted: Snapshot {
      stop()
      var snapshot = Snapshot()
      worker.counters.read(into: &snapshot)
      worker.phases.read(into: &snapshot)
      return snapshot
    }

    /// Whether nothing is left of any flow.
    var isIdle: Bool { budget.take(100) }
  }

  // MARK: Flows

  @Test(arguments: [ClientHandshake.Mode.stepwise, .pipelined])
  func carriesFlows(mode: ClientHandshake.Mode) throws {
    let server = try Server()
    let engine = try Engine(server.place)
    engine.upstream.isPipelined = mode == .pipelined
    let application = try engine.capture()
    try engine.run()
    var connection = try server.accept()
    try connection.connect()
    #expect(connection.destination == [1, 203, 0, 113, 7, 1, 187])
    try application.write([1, 2, 3])
    StreamSocket.shutdownSending(application.socket.rawValue)
    #expect(try connection.read(3) == [1, 2, 3])
    #expect(try connection.readSome(1).isEmpty)
    try connection.write([4, 5])
    StreamSocket.shutdownSending(connection.socket.rawValue)
    #expect(try application.read(2) == [4, 5])
    #expect(try application.readSome(1).isEmpty)
    let counted = engine.counted
    #expect(counted[.sessionsClosed] == 1 && counted[.sessionsFailed] == 0)
    #expect(counted[.bytesUpstream] == 3 && counted[.bytesDownstream] == 2)
    let phases = counted.phases[0].map { $0.counts.reduce(0, +) }
    for phase in FlowPhase.allCases where phase != .authentication || mode == .stepwise {
      #expect(phases[phase.rawValue] == 1, "\(phase)")
    }
    #expect(engine.isIdle)
  }

  /// So much that it is copied at first and then spliced.
  @Test(arguments: [true, false])
  func carriesMuch(isUpload: Bool) throws {
    let server = try Server()
    let engine = try Engine(server.place)
    let application = try engine.capture()
    try engine.run()
    var connection = try server.accept()
    try connection.connect()
    let bytes = (0..<8 << 20).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
    let sender = isUpload ? application.socket.rawValue : connection.socket.rawValue
    let writer = try Thread(name: "writer") {
      var rest = bytes[...]
      while !rest.isEmpty {
        switch rest.withUnsafeBytes({ send(sender, $0) }) {
        case .bytes(let count): rest = rest.dropFirst(count)
        case .wouldBlock: pause(Timeout(milliseconds: 1))
        case .failed: return
        }
      }
      StreamSocket.shutdownSending(sender)
    }
    let received = try isUpload ? connection.read(bytes.count) : application.read(bytes.count)
    writer.join()
    #expect(received == bytes)
    let end = try isUpload ? connection.readSome(1) : application.readSome(1)
    #expect(end.isEmpty)
    #expect(engine.counted[isUpload ? .bytesUpstream : .bytesDownstream] == UInt64(bytes.count))
  }

  @Test func passesRefusalsOn() throws {
    let server = try Server()
    let engine = try Engine(server.place)
    let application = try engine.capture()
    try engine.run()
    var connection = try server.accept()
    try connection.connect(code: 5)
    #expect(throws: Errno.connectionReset) { try application.readSome(1) }
    #expect(engine.counted[.replyConnectionRefused] == 1)
  }

  @Test(arguments: [true, false])
  func resetsWhereNobodyListens(isThere: Bool) throws {
    let place = TemporarySocketPath()
    if isThere { _ = try LocalSocket.listen(at: place.path) }
    let engine = try Engine(place)
    let application = try engine.capture()
    try engine.run()
    #expect(throws: Errno.connectionReset) { try application.readSome(1) }
    #expect(engine.counted[.connectRefused] == 1)
    #expect(engine.isIdle)
  }

  /// A server that was started again has another socket at the same path.
  @Test func followsAServerThatIsStartedAgain() throws {
    let place = TemporarySocketPath()
    do { _ = try Server(at: place) }
    place.remove()
    let server = try Server(at: place)
    let engine = try Engine(place)
    let application = try engine.capture()
    try engine.run()
    var connection = try server.accept()
    try connection.connect()
    try connection.write([1])
    #expect(try application.read(1) == [1])
  }

  /// A Unix socket has no resets, but the flow is over all the same.
  @Test func passesResetsOnAsEnds() throws {
    let server = try Server()
    let engine = try Engine(server.place)
    let application = try engine.capture()
    try engine.run()
    var connection = try server.accept()
    try connection.connect()
    try connection.write([1])
    #expect(try application.read(1) == [1])
    func reset(_ connection: consuming ScriptedConnection) { connection.socket.resetOnClose() }
    reset(application)
    #expect(try connection.readSome(1).isEmpty)
    #expect(engine.counted[.resetByDownstream] == 1)
  }

  // MARK: A full queue

  /// All flows wait for room, and get it one after the other.
  @Test func flowsWaitForRoom() throws {
    let server = try Server(backlog: 0)
    let engine = try Engine(server.place)
    let waiting = try server.fillQueue()
    let first = try engine.capture()
    let second = try engine.capture()
    try engine.run()
    _ = try server.accept()
    for _ in 0..<2 {
      var connection = try server.accept()
      try connection.connect()
      try connection.write([7])
    }
    let answers = [try first.read(1), try second.read(1)]
    #expect(answers == [[7], [7]])
    #expect(engine.counted[.sessionsOpened] == 2)
    withExtendedLifetime(waiting) {}
  }

  @Test func waitsNoLongerThanForAConnection() throws {
    let server = try Server(backlog: 0)
    let engine = try Engine(server.place, connect: Timeout(milliseconds: 100))
    let waiting = try server.fillQueue()
    let application = try engine.capture()
    try engine.captureDatagram([1])
    try engine.run()
    #expect(throws: Errno.connectionReset) { try application.readSome(1) }
    engine.waitFor(2, .connectTimeout)
    #expect(engine.counted[.connectTimeout] == 2)
    #expect(engine.isIdle)
    withExtendedLifetime(waiting) {}
  }

  /// An application that does not wait so long.
  @Test func resetWhileItWaits() throws {
    let server = try Server(backlog: 0)
    let engine = try Engine(server.place)
    let waiting = try server.fillQueue()
    do {
      let application = try engine.capture()
      application.socket.resetOnClose()
    }
    try engine.run()
    engine.waitFor(1, .resetByDownstream)
    #expect(engine.counted[.resetByDownstream] == 1)
    #expect(engine.isIdle)
    withExtendedLifetime(waiting) {}
  }

  @Test func probeWaitsForRoom() throws {
    let server = try Server(backlog: 0)
    let waiting = try server.fillQueue()
    let upstream = Upstream(at: .socket(server.place.path), credentials: nil)
    func probe(_ timeout: Timeout) -> UpstreamProbe.Outcome {
      UpstreamProbe.run(upstream, mode: .stepwise, mark: nil, timeout: timeout)
    }
    guard case .cannotConnect(.timedOut) = probe(Timeout(milliseconds: 50)) else {
      Issue.record("there was room")
      return
    }
    let thread = try Thread(name: "server") {
      do {
        _ = try server.accept()
        var connection = try server.accept()
        try connection.connect(code: 5)
      } catch {
        Issue.record("\(error)")
      }
    }
    guard case .replied(.connectionRefused) = probe(.seconds(10)) else {
      Issue.record("not answered")
      return
    }
    thread.join()
    withExtendedLifetime(waiting) {}
  }

  // MARK: Datagrams

  /// The server is on this host: an address that it leaves open, or that is of no use to others, is
  /// taken for the loopback's.
  @Test(arguments: [[0, 0, 0, 0], [127, 0, 0, 1]] as [[UInt8]], [true, false])
  func carriesDatagrams(reported: [UInt8], isQueueFull: Bool) throws {
    let server = try Server(backlog: isQueueFull ? 0 : 8)
    let engine = try Engine(server.place)
    let waiting: Descriptor? = isQueueFull ? try server.fillQueue() : nil
    try engine.captureDatagram([1, 2, 3])
    try engine.run()
    if isQueueFull { _ = try server.accept() }
    let control = try server.accept()
    #expect(try control.read(3) == [5, 1, 0])
    try control.write([5, 0])
    #expect(try control.read(10) == [5, 3, 0, 1, 0, 0, 0, 0, 0, 0])
    let relay = try DatagramTarget()
    let port = relay.address.port
    try control.write([5, 0, 0, 1] + reported + [UInt8(port >> 8), UInt8(port & 0xFF)])
    let arrival = try #require(relay.receive())
    #expect(arrival.payload == [0, 0, 0, 1, 203, 0, 113, 7, 1, 187, 1, 2, 3])
    #expect(engine.upstream.datagramAbility == .relays)
    _ = consume waiting
    #expect(engine.counted[.associationsClosed] == 1)
    #expect(engine.isIdle)
  }

  @Test func asksForDatagrams() throws {
    let server = try Server()
    let upstream = Upstream(at: .socket(server.place.path), credentials: nil)
    let thread = try Thread(name: "server") {
      do {
        let control = try server.accept()
        #expect(try control.read(3) == [5, 1, 0])
        try control.write([5, 0])
        #expect(try control.read(10) == [5, 3, 0, 1, 0, 0, 0, 0, 0, 0])
        try control.write([5, 7, 0, 1, 0, 0, 0, 0, 0, 0])
      } catch {
        Issue.record("\(error)")
      }
    }
    let refusal = UpstreamProbe.askForDatagrams(upstream, mark: nil, timeout: .seconds(10))
    #expect(
      refusal == DatagramRefusal(failure: .refused(.commandNotSupported), part: UpstreamPart()))
    #expect(upstream.datagramAbility == .refuses)
    thread.join()
  }

  // MARK: DNS by TCP

  @Test(arguments: [true, false])
  func carriesQueries(isQueueFull: Bool) throws {
    let server = try Server(backlog: isQueueFull ? 0 : 8)
    let engine = try Engine(server.place)
    let waiting: Descriptor? = isQueueFull ? try server.fillQueue() : nil
    let query: [UInt8] = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 120, 0, 0, 1, 0, 1]
    engine.worker.carryQuery(
      CapturedQuery(
        client: SocketAddress(.v4(.loopback), 40_000), destination: Self.target,
        resolver: Self.target, message: query))
    try engine.run()
    if isQueueFull { _ = try server.accept() }
    var connection = try server.accept()
    try connection.connect()
    #expect(connection.destination == [1, 203, 0, 113, 7, 1, 187])
    let asked = try connection.readQuery()
    #expect(asked[2...] == query[2...])
    _ = consume waiting
    engine.stop()
    #expect(engine.isIdle)
  }

  /// Queries that wait for room do so no longer than others.
  @Test func queriesDoNotWaitForever() throws {
    let server = try Server(backlog: 0)
    let engine = try Engine(server.place, connect: Timeout(milliseconds: 50))
    let waiting = try server.fillQueue()
    engine.worker.carryQuery(
      CapturedQuery(
        client: SocketAddress(.v4(.loopback), 40_000), destination: Self.target,
        resolver: Self.target,
        message: [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 120, 0, 0, 1, 0, 1]))
    try engine.run()
    engine.waitFor(4, .connectTimeout)
    let counted = engine.counted
    #expect(counted[.connectTimeout] == 4)
    #expect(counted[.queriesFailed] == 1)
    #expect(engine.isIdle)
    withExtendedLifetime(waiting) {}
  }

  // MARK: Loops

  /// No destination is the upstream; the program that listens on its socket is.
  @Test func findsLoops() throws {
    let place = TemporarySocketPath()
    let detector = LoopDetector(upstreams: [Upstream(at: .socket(place.path), credentials: nil)])
    let destination = OriginalDestination(Self.target)
    #expect(detector.check(destination, now: .now()) == nil)
    #expect(Upstream.Place.socket(place.path).owner == nil)
    let server = try Server(at: place)
    #expect(Upstream.Place.socket(place.path).owner?.isOurselves == true)
    withExtendedLifetime(server) {}
  }
}
