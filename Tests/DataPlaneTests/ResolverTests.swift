import Addressing
import DNS
import LinuxIO
import SOCKS
import Synchronization
import TestSupport
import Testing

@testable import DataPlane

private let resolver = SocketAddress(.v4(IPv4Address(bits: 0xC000_0235)), 53)

/// A query for an address of `name`.
private func query(_ name: String = "www.example", id: Int = 0x1234) -> [UInt8] {
  [UInt8(id >> 8), UInt8(id & 0xFF), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    + name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
    + [0, 0, 1, 0, 1]
}

/// Its answer, with so many addresses.
private func answer(to query: [UInt8], addresses: Int = 1) -> [UInt8] {
  var answer = query
  answer[2] |= 0x80
  answer.replaceSubrange(6..<8, with: [UInt8(addresses >> 8), UInt8(addresses & 0xFF)])
  for _ in 0..<addresses {
    answer += [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]
  }
  return answer
}

private func id(_ message: [UInt8]) -> Int { Int(message[0]) << 8 | Int(message[1]) }

private func serverFailure(of query: [UInt8]) -> [UInt8]? { Query(query)?.serverFailure }

/// A worker on a thread of its own, and a client whose answers it delivers.
private final class Engine {
  let upstream: Upstream
  let budget = DescriptorBudget(limit: 100)
  let worker: Worker
  let client: SocketAddress
  private let clientSocket: Descriptor
  private var thread: Thread?

  init(
    upstream address: SocketAddress, dns: Timeout? = nil, runs: Bool = true, audit: Audit? = nil
  ) throws {
    upstream = Upstream(at: .address(address), credentials: nil)
    var configuration = DataPlaneConfiguration(workers: 1, listeners: [], descriptorLimit: 100)
    configuration.upstream = upstream
    configuration.audit = audit
    if let dns { configuration.timeouts.dns = dns }
    worker = try Worker(
      configuration, budget: budget, quota: AssociationQuota(maximum: 0, maximumPerClient: 0),
      resolver: Resolver(),
      carrier: nil, report: { _ in })
    worker.datagrams.replies.use(
      try IngressSocket.replies(isIPv4: true).open(mark: nil, replyMark: nil), isIPv4: true)
    // Sending gives it a port; the datagram itself is for nobody.
    let loopback = SocketAddress(.v4(.loopback), 9)
    clientSocket = try DatagramSocket.open(for: loopback)
    try DatagramSocket.send([], from: clientSocket, to: loopback)
    client = SocketAddress(.v4(.loopback), clientSocket.localAddress?.port ?? 0)
    if runs { thread = try Thread(name: "worker") { [worker] in worker.run() } }
  }

  deinit { stop() }

  /// Ends the worker.
  func stop() {
    worker.mailbox.post(.stop)
    thread?.join()
    thread = nil
  }

  func captured(_ message: [UInt8], for resolver: SocketAddress = resolver) -> CapturedQuery {
    CapturedQuery(client: client, destination: resolver, resolver: resolver, message: message)
  }

  func ask(_ message: [UInt8], for resolver: SocketAddress = resolver) {
    let isTaken = worker.carrier.post(captured(message, for: resolver))
    precondition(isTaken, "not taken")
  }

  /// The next datagram that the client gets.
  func nextAnswer() throws -> [UInt8] {
    while true {
      guard clientSocket.wait(for: .readable, until: .now() + .seconds(10)) else {
        throw Silence()
      }
      var buffer = [UInt8](repeating: 0, count: 65_536)
      switch buffer.withUnsafeMutableBytes({ receive(clientSocket.rawValue, into: $0) }) {
      case .bytes(let count): return Array(buffer[..<count])
      // The datagram that gave the port has been refused.
      case .wouldBlock, .failed: continue
      }
    }
  }

  /// What has been counted, once the worker has ended.
  var counted: Snapshot {
    stop()
    var snapshot = Snapshot()
    worker.counters.read(into: &snapshot)
    return snapshot
  }
}

/// A server of moods: it closes when it likes, refuses, answers nonsense, or does as it should.
private final class Whims: Sendable {
  let isOver = Atomic<Bool>(false)
  private let random: Mutex<SplitMix>

  init(seed: UInt64) { random = Mutex(SplitMix(seed: seed)) }

  private func chance(_ percent: UInt64) -> Bool {
    random.withLock { $0.next(below: 100) } < percent
  }

  func play(_ connection: consuming ScriptedConnection) {
    if chance(15) { return }
    do {
      if chance(10) {
        try connection.connect(code: 4)
        return
      }
      try connection.connect()
      while true {
        let asked = try connection.readQuery()
        if chance(5) { return }
        if chance(10) { try connection.writeFramed(Array(asked.prefix(Int(asked[1]) % 40))) }
        let answer = answer(to: asked)
        if chance(5) {
          try connection.write([0, UInt8(answer.count)] + answer.prefix(20))
          return
        }
        try connection.writeFramed(answer)
      }
    } catch {
      // The worker has ended the connection.
      return
    }
  }
}

/// The worker's connections to resolvers, over real sockets.
@Suite(
  .enabled(
    if: System.hasNetworkAdministration,
    "answers in the name of a resolver need CAP_NET_RAW and CAP_NET_ADMIN"))
struct ResolverTests {
  @Test(arguments: [ClientHandshake.Mode.stepwise, .pipelined])
  func answersThroughTheUpstream(mode: ClientHandshake.Mode) throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    engine.upstream.isPipelined = mode == .pipelined
    engine.ask(query())
    let connection = try server.acceptAndConnect()
    #expect(connection.destination == [1, 192, 0, 2, 53, 0, 53])
    let asked = try connection.readQuery()
    #expect(asked[2...] == query()[2...])
    try connection.writeFramed(answer(to: asked))
    #expect(try engine.nextAnswer() == answer(to: query()))
    let counted = engine.counted
    #expect(counted[.queriesCarried] == 1)
    #expect(counted[.queriesAnswered] == 1)
    #expect(counted[.queriesFailed] + counted[.queriesTruncated] == 0)
    #expect(counted[.sessionsFailed] == 0)
    #expect(engine.budget.take(100))
  }

  @Test func reachesResolversByIPv6() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    engine.ask(query(), for: SocketAddress(.v6(.loopback), 5353))
    let connection = try server.acceptAndConnect()
    #expect(
      connection.destination == [4] + [UInt8](repeating: 0, count: 15) + [1, 0x14, 0xE9])
  }

  /// A thousand queries, answered in the reverse order, on one kept connection.
  @Test func keepsOneConnection() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    engine.ask(query("first.example"))
    let connection = try server.acceptAndConnect()
    try connection.writeFramed(answer(to: try connection.readQuery()))
    _ = try engine.nextAnswer()
    for round in 0..<20 {
      let ids = round * 50..<(round + 1) * 50
      for id in ids { engine.ask(query("q\(id).example", id: id)) }
      let asked = try ids.map { _ in try connection.readQuery() }
      for query in asked.reversed() { try connection.writeFramed(answer(to: query)) }
      for id in ids.reversed() {
        #expect(try engine.nextAnswer() == answer(to: query("q\(id).example", id: id)))
      }
    }
    #expect(server.isIdle)
    #expect(engine.counted[.queriesAnswered] == 1001)
  }

  @Test func truncatesWhatTheClientDoesNotTake() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    engine.ask(query())
    let connection = try server.acceptAndConnect()
    try connection.writeFramed(answer(to: try connection.readQuery(), addresses: 4000))
    var expected = answer(to: query(), addresses: 0)
    expected[2] |= 2
    #expect(try engine.nextAnswer() == expected)
    let counted = engine.counted
    #expect(counted[.queriesTruncated] == 1)
    #expect(counted[.queriesAnswered] == 1)
  }

  /// A query is a flow by UDP whose answer tells a name; one that is not answered has failed.
  @Test(arguments: [true, false])
  func isAudited(isAnswered: Bool) throws {
    let server = try ScriptedUpstream()
    let audit = Audit()
    let engine = try Engine(upstream: server.address, audit: audit)
    engine.ask(query())
    for _ in 0..<(isAnswered ? 1 : 3) {
      let connection = try server.acceptAndConnect()
      let asked = try connection.readQuery()
      if isAnswered { try connection.writeFramed(answer(to: asked)) }
      if isAnswered { _ = try engine.nextAnswer() }
    }
    engine.stop()
    audit.record(
      Audit.Traffic(flows: 1), .init(.tcp, SocketAddress(.v4(IPv4Address(bits: 0xC000_0201)), 80)))
    let traffic = Audit.Traffic(
      flows: 1, failed: isAnswered ? 0 : 1, sent: UInt64(query().count),
      received: isAnswered ? UInt64(answer(to: query()).count) : 0)
    #expect(audit.entries().map(\.destination.transport) == [.udp, .tcp])
    #expect(audit.entries().first?.destination.address == resolver)
    #expect(audit.entries().first?.traffic == traffic)
    #expect(audit.entries().last?.name == (isAnswered ? "www.example" : nil))
  }

  // MARK: Connections that end

  @Test func asksAgainOnAnotherConnection() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    for id in 0..<10 { engine.ask(query(id: id)) }
    var unanswered = Set(0..<10)
    while !unanswered.isEmpty {
      // One answer each.
      let connection = try server.acceptAndConnect()
      try connection.writeFramed(answer(to: try connection.readQuery()))
      unanswered.remove(id(try engine.nextAnswer()))
    }
    let counted = engine.counted
    #expect(counted[.queriesAnswered] == 10)
    #expect(counted[.queriesFailed] == 0)
  }

  @Test func givesUpWhatNoConnectionAnswers() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    engine.ask(query())
    for _ in 0..<3 {
      let connection = try server.acceptAndConnect()
      #expect(try connection.readQuery()[2...] == query()[2...])
    }
    #expect(try engine.nextAnswer() == serverFailure(of: query()))
    let counted = engine.counted
    #expect(counted[.queriesFailed] == 1)
    #expect(counted[.resolverClosed] == 3)
    #expect(engine.budget.take(100))
  }

  @Test func idleConnectionMayEnd() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    for id in 0..<3 {
      engine.ask(query(id: id))
      let connection = try server.acceptAndConnect()
      try connection.writeFramed(answer(to: try connection.readQuery()))
      #expect(try engine.nextAnswer() == answer(to: query(id: id)))
      StreamSocket.shutdownSending(connection.socket.rawValue)
      try connection.readToTheEnd()
    }
    #expect(engine.counted[.resolverClosed] == 0)
  }

  // MARK: Connections that are not made

  @Test func failsWithoutAnUpstream() throws {
    let reservation = try StreamSocket.reservePort(on: .v4(.loopback))
    guard let address = reservation.localAddress else { throw Errno.addressNotAvailable }
    let engine = try Engine(upstream: address)
    engine.ask(query())
    #expect(try engine.nextAnswer() == serverFailure(of: query()))
    #expect(engine.counted[.connectRefused] == 4)
    #expect(engine.budget.take(100))
  }

  @Test func failsWhereTheUpstreamRefuses() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    engine.ask(query())
    for _ in 0..<4 {
      var connection = try server.accept()
      try connection.connect(code: 5)
      try connection.readToTheEnd()
    }
    #expect(try engine.nextAnswer() == serverFailure(of: query()))
    #expect(engine.counted[.replyConnectionRefused] == 4)
  }

  /// An upstream that no longer takes a handshake in one write is asked step by step.
  @Test func pipeliningIsGivenUp() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    engine.upstream.isPipelined = true
    engine.ask(query())
    do {
      let connection = try server.accept()
      _ = try connection.read(3)
    }
    let connection = try server.acceptAndConnect()
    try connection.writeFramed(answer(to: try connection.readQuery()))
    #expect(try engine.nextAnswer() == answer(to: query()))
    #expect(engine.upstream.mode == .stepwise)
  }

  // MARK: Silence

  @Test func silentConnectionIsLeft() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address, dns: .seconds(1))
    engine.ask(query())
    let connection = try server.acceptAndConnect()
    _ = try connection.readQuery()
    #expect(try engine.nextAnswer() == serverFailure(of: query()))
    try connection.readToTheEnd()
    #expect(engine.counted[.queryUnanswered] == 1)
  }

  @Test func silentUpstreamIsLeft() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address, dns: .seconds(1))
    engine.ask(query())
    let connection = try server.accept()
    #expect(try engine.nextAnswer() == serverFailure(of: query()))
    try connection.readToTheEnd()
    #expect(engine.counted[.handshakeTimeout] == 1)
  }

  // MARK: Bounds

  @Test func queriesAreBounded() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    let large = query() + [UInt8](repeating: 0, count: 60_000)
    let most = QueryPipeline<Requester>.maximumBytes / large.count
    for _ in 0...most { engine.ask(large) }
    #expect(try engine.nextAnswer() == serverFailure(of: large))
    let counted = engine.counted
    #expect(counted[.queriesCarried] == UInt64(most))
    #expect(counted[.queryRefused] == 1)
  }

  @Test func resolversAreBounded() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    for port in 0...ResolverTable.maximumResolvers {
      engine.ask(query(id: port), for: SocketAddress(resolver.address, UInt16(port + 1)))
    }
    #expect(try engine.nextAnswer() == serverFailure(of: query(id: 0)))
    #expect(engine.counted[.queryRefused] == 1)
    #expect(engine.budget.take(100))
  }

  /// A client that has too many on their way is refused more until some are answered.
  @Test func clientsAreBounded() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    for id in 0...ClientQuota.maximumQueries { engine.ask(query(id: id)) }
    #expect(try engine.nextAnswer() == serverFailure(of: query(id: ClientQuota.maximumQueries)))
    let connection = try server.acceptAndConnect()
    try connection.writeFramed(answer(to: try connection.readQuery()))
    #expect(try engine.nextAnswer() == answer(to: query(id: 0)))
    engine.ask(query(id: 5000))
    for _ in 1..<ClientQuota.maximumQueries { _ = try connection.readQuery() }
    try connection.writeFramed(answer(to: try connection.readQuery()))
    #expect(try engine.nextAnswer() == answer(to: query(id: 5000)))
    #expect(engine.counted[.queryRefused] == 1)
  }

  @Test func refusedQueryLeavesNoResolver() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address, runs: false)
    let other = SocketAddress(resolver.address, 1)
    for id in 0..<ClientQuota.maximumQueries {
      engine.worker.carryQuery(engine.captured(query(id: id)))
    }
    engine.worker.carryQuery(engine.captured(query(), for: other))
    #expect(try engine.nextAnswer() == serverFailure(of: query()))
    #expect(engine.worker.resolvers.index(of: other) == nil)
  }

  @Test func handoverIsBounded() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address, runs: false)
    let other = try Worker(
      engine.worker.configuration, budget: engine.budget,
      quota: AssociationQuota(maximum: 0, maximumPerClient: 0),
      resolver: Resolver(),
      carrier: engine.worker.carrier, report: { _ in })
    other.datagrams.replies.use(
      try IngressSocket.replies(isIPv4: true).open(mark: nil, replyMark: nil), isIPv4: true)
    for id in 0...QueryCarrier.maximumWaiting { other.carryQuery(engine.captured(query(id: id))) }
    let last = query(id: QueryCarrier.maximumWaiting)
    #expect(try engine.nextAnswer() == serverFailure(of: last))
    #expect(engine.worker.mailbox.takeAll().count == QueryCarrier.maximumWaiting)
  }

  @Test func otherWorkersHandOver() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    let other = try Worker(
      engine.worker.configuration, budget: engine.budget,
      quota: AssociationQuota(maximum: 0, maximumPerClient: 0),
      resolver: Resolver(),
      carrier: engine.worker.carrier, report: { _ in })
    other.carryQuery(engine.captured(query()))
    let connection = try server.acceptAndConnect()
    try connection.writeFramed(answer(to: try connection.readQuery()))
    #expect(try engine.nextAnswer() == answer(to: query()))
  }

  // MARK: Hostile peers

  @Test func malformedQueriesAreDropped() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    let broken: [[UInt8]] = [[], [1, 2, 3], answer(to: query()), Array(query().dropLast())]
    for message in broken { engine.ask(message) }
    engine.ask(query())
    let connection = try server.acceptAndConnect()
    #expect(try connection.readQuery()[2...] == query()[2...])
    let counted = engine.counted
    #expect(counted[.queryMalformed] == UInt64(broken.count))
    #expect(counted[.queriesCarried] == 1)
  }

  /// Megabytes of anything in place of answers do no harm, and the answer is found behind them.
  @Test func floodIsPassedOver() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    engine.ask(query())
    let connection = try server.acceptAndConnect()
    let asked = try connection.readQuery()
    var random = SplitMix(seed: 1)
    for _ in 0..<200 {
      let count = Int(random.next(below: 40_000))
      try connection.writeFramed((0..<count).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 3) })
    }
    try connection.writeFramed(answer(to: asked))
    #expect(try engine.nextAnswer() == answer(to: query()))
  }

  /// Whatever the server does, every query has one answer.
  @Test(arguments: 0..<4)
  func everyQueryIsAnsweredOnce(seed: UInt64) throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    let whims = Whims(seed: seed)
    let thread = try Thread(name: "whims") {
      while let connection = try? server.accept(), !whims.isOver.load(ordering: .relaxed) {
        whims.play(connection)
      }
    }
    for round in 0..<20 {
      let ids = Set(round * 30..<(round + 1) * 30)
      for id in ids { engine.ask(query("q\(id).example", id: id)) }
      var answered: Set<Int> = []
      for _ in ids { answered.insert(id(try engine.nextAnswer())) }
      #expect(answered == ids)
    }
    whims.isOver.store(true, ordering: .relaxed)
    let counted = engine.counted
    _ = try StreamSocket.connect(to: server.address, mark: nil)
    thread.join()
    #expect(counted[.queriesCarried] == 600)
    #expect(counted[.queriesAnswered] + counted[.queriesFailed] == 600)
    #expect(counted[.queriesAnswered] > 100)
    #expect(engine.budget.take(100))
  }

  // MARK: The end

  /// A drain waits for the answers that are due, and for nothing else.
  @Test func drainWaitsForAnswers() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    engine.ask(query(), for: SocketAddress(resolver.address, 1))
    let idle = try server.acceptAndConnect()
    try idle.writeFramed(answer(to: try idle.readQuery()))
    _ = try engine.nextAnswer()
    engine.ask(query())
    let busy = try server.acceptAndConnect()
    let asked = try busy.readQuery()
    engine.worker.mailbox.post(.drain(acceptsWaiting: true))
    try idle.readToTheEnd()
    try busy.writeFramed(answer(to: asked))
    #expect(try engine.nextAnswer() == answer(to: query()))
    try busy.readToTheEnd()
    #expect(engine.counted.isIdle)
  }

  // MARK: Time

  /// What nobody asks any more is let go of; time is virtual.
  @Test func idleResolverIsForgotten() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address, runs: false)
    let worker = engine.worker
    worker.carryQuery(engine.captured(query()))
    let start = worker.now
    func pass(until now: Instant) {
      worker.now = now
      while let index = worker.resolvers.timers.next(now: now) {
        worker.handleResolverTimeout(index)
      }
    }
    pass(until: start + .seconds(11))
    #expect(try engine.nextAnswer() == serverFailure(of: query()))
    pass(until: start + Timeout(milliseconds: ResolverConnection.idleTimeout.milliseconds - 1))
    #expect(worker.resolvers.index(of: resolver) != nil)
    pass(until: start + ResolverConnection.idleTimeout)
    #expect(worker.resolvers.index(of: resolver) == nil)
    #expect(worker.resolvers.timers.nextExpiry == nil)
    #expect(engine.budget.take(100))
  }
}
