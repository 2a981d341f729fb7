import Addressing
import LinuxIO
import SOCKS
import TestSupport
import Testing

@testable import DataPlane

/// Associations through a chain of three hops, of which the test plays every server.
struct NestedAssociationTests {
  private static let target = SocketAddress(.v4(IPv4Address(bits: 0xCB00_7107)), 443)
  private static let client = SocketAddress(.v4(.loopback), 40_000)
  private static let second = SocketAddress(.v4(IPv4Address(bits: 0xC000_0202)), 1081)
  private static let descriptors = 100

  /// A worker with the chain, which runs on a thread of its own once a datagram was given to it.
  private final class Engine {
    let server: ScriptedUpstream
    let upstream: Upstream
    private let worker: Worker
    private let budget = DescriptorBudget(limit: NestedAssociationTests.descriptors)
    private var thread: Thread?

    init() throws {
      server = try ScriptedUpstream()
      upstream = Upstream(
        at: .address(server.address), .socks5(nil),
        before: [
          .init(at: .address(NestedAssociationTests.second), .socks5(nil)),
          .init(at: .name(try #require(HostName("c")), port: 1082), .socks5(nil)),
        ])
      var configuration = DataPlaneConfiguration(workers: 1, listeners: [], descriptorLimit: 400)
      configuration.upstream = upstream
      configuration.datagrams = DatagramConfiguration(listeners: [])
      worker = try Worker(
        configuration, budget: budget, quota: AssociationQuota(maximum: 9, maximumPerClient: 9),
        resolver: Resolver(), carrier: nil, report: { _ in })
    }

    deinit { stop() }

    /// Has the worker take the first datagram of a client, and run.
    func begin(_ payload: [UInt8]) throws {
      let target = NestedAssociationTests.target
      guard
        let index = worker.findAssociation(
          of: NestedAssociationTests.client, to: target, among: MemberSet(count: 1), by: .none)
      else {
        throw Silence()
      }
      let isWaiting = payload.withUnsafeBytes {
        worker.datagrams.associations.slots[index].pointee.waiting.append($0, to: target)
      }
      worker.datagrams.waitingBytes += payload.count
      #expect(isWaiting)
      // Each leg and the relay.
      let left = NestedAssociationTests.descriptors - 4
      let isTaken = budget.take(left) && !budget.take(1)
      #expect(isTaken)
      budget.giveBack(left)
      thread = try Thread(name: "worker") { [worker] in worker.run() }
    }

    func stop() {
      worker.mailbox.post(.stop)
      thread?.join()
      thread = nil
    }

    /// What has been counted, once the worker has ended.
    var counted: Snapshot {
      stop()
      var snapshot = Snapshot()
      worker.counters.read(into: &snapshot)
      return snapshot
    }

    /// Whether nothing is left of any association.
    var isIdle: Bool { budget.take(NestedAssociationTests.descriptors) }

    /// Waits until so many associations have ended.
    func waitForEnd() {
      let deadline = Instant.now() + .seconds(10)
      while Instant.now() < deadline {
        var snapshot = Snapshot()
        worker.counters.read(into: &snapshot)
        if snapshot[.associationsClosed] == 1 { return }
        pause(Timeout(milliseconds: 1))
      }
      Issue.record("the association has not ended")
    }
  }

  /// What leads to each hop behind the first.
  private static let ways: [[UInt8]] = [
    [5, 1, 0, 1, 192, 0, 2, 2, 0x04, 0x39], [5, 1, 0, 3, 1, 0x63, 0x04, 0x3A],
  ]

  /// Takes what a leg asks, up to its ASSOCIATE.
  private static func lead(_ leg: borrowing ScriptedConnection, toHop hop: Int) throws {
    for way in ways[..<hop] {
      #expect(try leg.read(3) == [5, 1, 0])
      try leg.write([5, 0])
      #expect(try leg.read(way.count) == way)
      try leg.write([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    }
    #expect(try leg.read(3) == [5, 1, 0])
    try leg.write([5, 0])
    #expect(try leg.read(10) == [5, 3, 0, 1, 0, 0, 0, 0, 0, 0])
  }

  private static func reply(_ address: SocketAddress) -> [UInt8] {
    guard case .v4(let v4) = address.address else { preconditionFailure("IPv4") }
    return [5, 0, 0, 1]
      + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: v4.bits >> $0) }
      + [UInt8(address.port >> 8), UInt8(address.port & 0xFF)]
  }

  /// Whichever hop answers last, the datagram goes once all have.
  @Test(arguments: [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]])
  func opensOnceEveryHopHasAnswered(order: [Int]) throws {
    let engine = try Engine()
    try engine.begin([1, 2, 3])
    let relay = try DatagramTarget()
    let first = try engine.server.accept()
    let second = try engine.server.accept()
    let third = try engine.server.accept()
    let replies = [
      Self.reply(relay.address),
      // Nothing but a port: it is at its hop's address, and at its name.
      [5, 0, 0, 1, 0, 0, 0, 0, 0x13, 0x88], [5, 0, 0, 1, 127, 0, 0, 1, 0x13, 0x89],
    ]
    try Self.lead(first, toHop: 0)
    try Self.lead(second, toHop: 1)
    try Self.lead(third, toHop: 2)
    for hop in order {
      #expect(relay.receiveAll().isEmpty)
      switch hop {
      case 0: try first.write(replies[0])
      case 1: try second.write(replies[1])
      default: try third.write(replies[2])
      }
    }
    let arrival = try #require(relay.receive())
    let outer: [UInt8] = [0, 0, 0, 1, 192, 0, 2, 2, 0x13, 0x88, 0, 0, 0, 3, 1, 0x63, 0x13, 0x89]
    #expect(arrival.payload == outer + [0, 0, 0, 1, 203, 0, 113, 7, 1, 187, 1, 2, 3])
    #expect(engine.upstream.datagramAbility == .relays)
    #expect(engine.server.isIdle)
    let counted = engine.counted
    #expect(counted[.associationsClosed] == 1 && counted[.datagramsUpstream] == 1)
    #expect(engine.isIdle)
  }

  /// One that refuses ends all, and is remembered unless it refuses something else than datagrams.
  @Test(arguments: [
    (0, 7, Failure.replyCommandNotSupported, Upstream.DatagramAbility.refuses),
    (1, 7, .replyCommandNotSupported, .refuses), (2, 2, .replyNotAllowed, .refuses),
    (1, 1, .replyGeneralFailure, .unknown),
  ])
  func refused(
    _ hop: Int, _ code: UInt8, _ failure: Failure, _ ability: Upstream.DatagramAbility
  ) throws {
    let engine = try Engine()
    try engine.begin([1])
    let first = try engine.server.accept()
    let second = try engine.server.accept()
    let third = try engine.server.accept()
    let refusal: [UInt8] = [5, code, 0, 1, 0, 0, 0, 0, 0, 0]
    switch hop {
    case 0:
      try Self.lead(first, toHop: 0)
      try first.write(refusal)
    case 1:
      try Self.lead(second, toHop: 1)
      try second.write(refusal)
    default:
      try Self.lead(third, toHop: 2)
      try third.write(refusal)
    }
    engine.waitForEnd()
    try first.readToTheEnd()
    try second.readToTheEnd()
    try third.readToTheEnd()
    #expect(engine.upstream.datagramAbility == ability)
    let counted = engine.counted
    #expect(counted[failure] == 1 && counted[.noAssociation] == 1)
    #expect(engine.isIdle)
  }

  /// A relay without a port is none.
  @Test func replyWithoutAPort() throws {
    let engine = try Engine()
    try engine.begin([1])
    let first = try engine.server.accept()
    let second = try engine.server.accept()
    let third = try engine.server.accept()
    try Self.lead(second, toHop: 1)
    try second.write([5, 0, 0, 1, 198, 51, 100, 7, 0, 0])
    engine.waitForEnd()
    #expect(engine.counted[.protocolViolation] == 1)
    #expect(engine.isIdle)
    try first.readToTheEnd()
    try third.readToTheEnd()
  }

  /// Each hop takes a descriptor of every association.
  @Test func affordable() throws {
    var configuration = DataPlaneConfiguration(workers: 1, listeners: [], descriptorLimit: 1000)
    configuration.datagrams = DatagramConfiguration(listeners: [])
    let half = configuration.sessionDescriptors / 2
    configuration.upstream = Upstream(at: .address(Self.second), credentials: nil)
    #expect(configuration.associations == half / 2)
    configuration.upstream = try Engine().upstream
    #expect(configuration.associations == half / 4)
  }
}
