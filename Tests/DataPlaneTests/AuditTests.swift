import Addressing
import LinuxIO
import TestSupport
import Testing

@testable import DataPlane

private func address(_ last: UInt32, _ port: UInt16) -> SocketAddress {
  SocketAddress(.v4(IPv4Address(bits: 0xC000_0200 | last)), port)
}

/// An answer that says where `www.example` is: 192.0.2.`last`.
private func answer(_ name: String = "www.example", last: UInt8) -> [UInt8] {
  let labels = name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
  return [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0] + labels + [0, 0, 1, 0, 1]
    + [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, last]
}

extension Audit {
  fileprivate func learn(_ message: [UInt8]) { message.withUnsafeBytes { learn(from: $0) } }
}

/// The table itself.
struct AuditTests {
  @Test func addsUp() {
    let audit = Audit()
    let (tcp, udp) = (
      Audit.Destination(.tcp, address(1, 443)), Audit.Destination(.udp, address(1, 443))
    )
    audit.record(Audit.Traffic(flows: 1, sent: 10, received: 5), tcp)
    audit.record(Audit.Traffic(flows: 1, failed: 1), tcp)
    audit.record(Audit.Traffic(flows: 1, received: 16), udp)
    #expect(
      audit.entries() == [
        .init(destination: udp, traffic: .init(flows: 1, received: 16), name: nil),
        .init(
          destination: tcp, traffic: .init(flows: 2, failed: 1, sent: 10, received: 5), name: nil),
      ])
    #expect(audit.omitted == Audit.Traffic())
  }

  /// By bytes, then by flows, then always in the same way.
  @Test func sorts() {
    let destinations = [
      Audit.Destination(.tcp, address(9, 1)), .init(.udp, address(3, 1)),
      .init(.tcp, address(1, 80)),
      .init(.udp, address(1, 80)), .init(.tcp, address(1, 443)), .init(.tcp, address(2, 1)),
      .init(.tcp, SocketAddress(.v6(.loopback), 1)),
    ]
    for order in [Array(destinations.indices), destinations.indices.reversed()] {
      let audit = Audit()
      for index in order {
        let traffic = Audit.Traffic(flows: index == 1 ? 2 : 1, sent: index == 0 ? 1 : 0)
        audit.record(traffic, destinations[index])
      }
      #expect(audit.entries().map(\.destination) == destinations)
    }
  }

  @Test func sumsUpWhatThereIsNoRoomFor() {
    let audit = Audit()
    for index in 0..<Audit.maximumDestinations + 3 {
      audit.record(
        Audit.Traffic(flows: 1, failed: 1, sent: 2, received: 3),
        .init(.tcp, SocketAddress(.v4(IPv4Address(bits: UInt32(index))), 1)))
    }
    audit.record(
      Audit.Traffic(flows: 1, sent: 1), .init(.tcp, SocketAddress(.v4(IPv4Address(bits: 0)), 1)))
    #expect(audit.entries().count == Audit.maximumDestinations)
    #expect(audit.entries().first?.traffic == .init(flows: 2, failed: 1, sent: 3, received: 3))
    #expect(audit.omitted == .init(flows: 3, failed: 3, sent: 6, received: 9))
  }

  // MARK: Names

  /// A destination keeps the name of its first flow; one without gets that which is known in the end.
  @Test func namesDestinations() {
    let audit = Audit()
    audit.learn(answer("first.example", last: 1))
    audit.record(Audit.Traffic(flows: 1), .init(.tcp, address(1, 443)))
    audit.record(Audit.Traffic(flows: 1), .init(.tcp, address(2, 443)))
    audit.record(Audit.Traffic(flows: 1), .init(.tcp, address(3, 443)))
    audit.learn(answer("second.example", last: 1))
    audit.learn(answer("third.example", last: 2))
    audit.record(Audit.Traffic(flows: 1), .init(.tcp, address(1, 443)))
    #expect(audit.entries().map(\.name) == ["first.example", "third.example", nil])
  }

  @Test(arguments: [
    [], [1], Array(answer(last: 1).dropLast()), Array(answer(last: 1).dropFirst(1)),
  ])
  func learnsNothing(from message: [UInt8]) {
    let audit = Audit()
    audit.learn(message)
    audit.record(Audit.Traffic(flows: 1), .init(.tcp, address(1, 443)))
    #expect(audit.entries().map(\.name) == [nil])
  }

  /// Random look-ups, against a list in the order of their last being learnt.
  @Test(arguments: 0..<4)
  func forgetsTheLeastRecentlyLearnt(seed: UInt64) {
    var generator = SplitMix(seed: 900 + seed)
    var names = LearntNames(maximum: 8)
    var model: [(address: IPAddress, name: String)] = []
    for step in 0..<2000 {
      let address = address(UInt32(generator.next(below: 12)), 0).address
      names.learn("n\(step)", of: address)
      model.removeAll { $0.address == address }
      model.append((address, "n\(step)"))
      if model.count > 8 { model.removeFirst() }
      for last in 0..<12 as Range<UInt32> {
        let address = DataPlaneTests.address(last, 0).address
        #expect(names[address] == model.last { $0.address == address }?.name)
      }
    }
  }
}

/// What flows leave in it.
struct AuditedFlowsTests {
  /// A worker to which connections are given by hand.
  private final class Engine {
    let audit = Audit()
    let worker: Worker
    private let upstream: Upstream
    private var thread: Thread?

    init(upstream address: SocketAddress) throws {
      upstream = Upstream(at: .address(address), credentials: nil)
      var configuration = DataPlaneConfiguration(workers: 1, listeners: [], descriptorLimit: 100)
      configuration.upstream = upstream
      configuration.audit = audit
      worker = try Worker(
        configuration, budget: DescriptorBudget(limit: 100),
        quota: AssociationQuota(maximum: 0, maximumPerClient: 0), resolver: Resolver(),
        carrier: nil, report: { _ in })
    }

    /// Gives it a connection; returns the client's end.
    func capture(to destination: SocketAddress) throws -> ScriptedConnection {
      let listener = try ScriptedUpstream()
      let client = try StreamSocket.connect(to: listener.address, mark: nil)
      let accepted = try listener.accept()
      worker.beginCaptured(
        accepted.release(), from: listener.address, to: OriginalDestination(destination))
      return ScriptedConnection(socket: client)
    }

    func start() throws { thread = try Thread(name: "worker") { [worker] in worker.run() } }

    func stop() {
      worker.mailbox.post(.stop)
      thread?.join()
      thread = nil
    }
  }

  /// A session that ends, and one that goes on until the worker is stopped.
  @Test(arguments: [true, false])
  func capturedConnection(isEnded: Bool) throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    let client = try engine.capture(to: address(1, 443))
    try engine.start()
    let connection = try server.acceptAndConnect()
    try client.write([1, 2, 3])
    #expect(try connection.read(3) == [1, 2, 3])
    try connection.write([4, 5])
    #expect(try client.read(2) == [4, 5])
    if isEnded {
      StreamSocket.shutdownSending(connection.socket.rawValue)
      StreamSocket.shutdownSending(client.socket.rawValue)
      #expect(try client.readSome(1).isEmpty)
      #expect(try connection.readSome(1).isEmpty)
    }
    engine.stop()
    let destination = Audit.Destination(.tcp, address(1, 443))
    #expect(
      engine.audit.entries() == [
        .init(
          destination: destination, traffic: .init(flows: 1, sent: 3, received: 2), name: nil)
      ])
  }

  @Test func refusedConnection() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    let client = try engine.capture(to: address(1, 443))
    try engine.start()
    var connection = try server.accept()
    try connection.connect(code: 5)
    #expect(throws: Errno.connectionReset) { try client.readSome(1) }
    engine.stop()
    #expect(engine.audit.entries().map(\.traffic) == [.init(flows: 1, failed: 1)])
  }

  /// What is forwarded out of the captured side is a destination, what comes in is none.
  @Test(arguments: [Forwarding.outward, .inward])
  func forwardedConnection(forwarding: Forwarding) throws {
    let audit = Audit()
    let target = try ScriptedUpstream()
    let forwarder = try Forwarder(to: [target.address], forwarding) { configuration in
      configuration.audit = audit
      configuration.insideSocket = { try? StreamSocket.open(isIPv4: $0) }
    }
    // The second has a place that was used before.
    for payload in [[1, 2, 3], [4]] as [[UInt8]] {
      let client = try forwarder.connect()
      let server = try target.accept()
      try client.write(payload)
      #expect(try server.read(payload.count) == payload)
      server.socket.resetOnClose()
      _ = consume server
      #expect(throws: Errno.connectionReset) { try client.readSome(1) }
    }
    forwarder.dataPlane.stop()
    switch forwarding {
    case .outward:
      let entries = audit.entries()
      #expect(entries.map(\.destination) == [.init(.tcp, target.address)])
      #expect(entries.map(\.traffic) == [.init(flows: 2, sent: 4)])
    case .inward: #expect(audit.entries().isEmpty)
    }
  }
}
