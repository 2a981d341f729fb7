import Addressing
import LinuxIO
import Synchronization
import Testing

@testable import DataPlane

/// Connections that are forwarded to fixed targets. Both sides are this network namespace.
struct ForwardTests {
  /// Where nobody listens, as long as `reservation` lives.
  private static func closedPort(_ reservation: borrowing Descriptor) throws -> SocketAddress {
    guard let address = reservation.localAddress else { throw Errno.addressNotAvailable }
    return address
  }

  /// Bytes both ways, and the end of each direction for itself.
  @Test(arguments: [Forwarding.outward, .inward])
  func relays(forwarding: Forwarding) throws {
    let target = try ScriptedUpstream()
    let asked = Mutex<[Bool]>([])
    let recorder: @Sendable (Bool) -> Descriptor? = { isIPv4 in
      asked.withLock { $0.append(isIPv4) }
      return try? StreamSocket.open(isIPv4: isIPv4)
    }
    let forwarder = try Forwarder(to: [target.address], forwarding) { $0.insideSocket = recorder }
    do {
      let client = try forwarder.connect()
      try client.write([1, 2, 3])
      let server = try target.accept()
      #expect(try server.read(3) == [1, 2, 3])
      StreamSocket.shutdownSending(client.socket.rawValue)
      #expect(try server.readSome(1).isEmpty)
      try server.write([4, 5])
      StreamSocket.shutdownSending(server.socket.rawValue)
      #expect(try client.read(2) == [4, 5])
      #expect(try client.readSome(1).isEmpty)
    }
    let counts = forwarder.finalCounts()
    #expect(counts[.sessionsOpened] == 1 && counts[.sessionsClosed] == 1)
    #expect(counts[.bytesUpstream] == 3 && counts[.bytesDownstream] == 2)
    #expect(counts[.sessionsFailed] == 0)
    switch forwarding {
    case .outward: #expect(asked.withLock { $0 }.isEmpty)
    case .inward: #expect(asked.withLock { $0 } == [true])
    }
  }

  @Test func triesTargetsInOrder() throws {
    let reservation = try StreamSocket.reservePort(on: .v4(.loopback))
    let target = try ScriptedUpstream()
    let forwarder = try Forwarder(
      to: [try Self.closedPort(reservation), target.address], .outward)
    let client = try forwarder.connect()
    let server = try target.accept()
    try server.write([7])
    #expect(try client.read(1) == [7])
    #expect(forwarder.finalCounts()[.targetRefused] == 0)
  }

  /// The client sees a reset, and it is counted why.
  @Test func resetsWhereNobodyListens() throws {
    let reservation = try StreamSocket.reservePort(on: .v4(.loopback))
    let forwarder = try Forwarder(to: [try Self.closedPort(reservation)], .outward)
    let client = try forwarder.connect()
    #expect(throws: Errno.connectionReset) { try client.readSome(1) }
    let counts = forwarder.finalCounts()
    #expect(counts[.targetRefused] == 1 && counts[.sessionsFailed] == 1)
    #expect(counts.liveSessions == 0)
  }

  @Test(arguments: [true, false])
  func resetsWithoutASocketInside(hasSource: Bool) throws {
    let target = try ScriptedUpstream()
    let forwarder = try Forwarder(to: [target.address], .inward) { configuration in
      if hasSource { configuration.insideSocket = { _ in nil } }
    }
    let client = try forwarder.connect()
    #expect(throws: Errno.connectionReset) { try client.readSome(1) }
    #expect(forwarder.finalCounts()[.targetRefused] == 1)
    #expect(target.isIdle)
  }

  /// A reset goes through, in both directions.
  @Test(arguments: [true, false])
  func passesResetsOn(byClient: Bool) throws {
    let target = try ScriptedUpstream()
    let forwarder = try Forwarder(to: [target.address], .outward)
    let client = try forwarder.connect()
    let server = try target.accept()
    try server.write([1])
    #expect(try client.read(1) == [1])
    func reset(_ connection: consuming ScriptedConnection) {
      connection.socket.resetOnClose()
    }
    if byClient {
      reset(client)
      #expect(throws: Errno.connectionReset) { try server.readSome(1) }
      #expect(forwarder.finalCounts()[.resetByDownstream] == 1)
    } else {
      reset(server)
      #expect(throws: Errno.connectionReset) { try client.readSome(1) }
      #expect(forwarder.finalCounts()[.resetByUpstream] == 1)
    }
  }

  /// Draining closes the listener and lets the session go on; stopping resets it.
  @Test func drainsAndStops() throws {
    let target = try ScriptedUpstream()
    let forwarder = try Forwarder(to: [target.address], .outward)
    let client = try forwarder.connect()
    let server = try target.accept()
    forwarder.dataPlane.drain(acceptsWaiting: true)
    let deadline = Instant.now() + .seconds(10)
    while (try? StreamSocket.checkFree(forwarder.address)) == nil, Instant.now() < deadline {}
    try StreamSocket.checkFree(forwarder.address)
    try server.write([1])
    #expect(try client.read(1) == [1])
    #expect(forwarder.finalCounts()[.endedByShutdown] == 1)
    #expect(throws: Errno.connectionReset) { try client.readSome(1) }
  }

  /// What has connected by then is carried, or left to whoever listens next: here to nobody. The workers
  /// hear of the end first.
  @Test(arguments: [true, false]) func drainsWhatWaits(acceptsWaiting: Bool) throws {
    let target = try ScriptedUpstream()
    let forwarder = try Forwarder(to: [target.address], .outward, starts: false)
    forwarder.dataPlane.drain(acceptsWaiting: acceptsWaiting)
    // More than are accepted in one turn.
    let count = 70
    func connect(_ rest: Int) throws {
      guard rest > 0 else {
        try forwarder.dataPlane.start()
        if acceptsWaiting { for _ in 0..<count { try target.accept().write([1]) } }
        return
      }
      let client = try forwarder.connect()
      try connect(rest - 1)
      if acceptsWaiting {
        #expect(try client.read(1) == [1])
      } else {
        #expect(throws: Errno.connectionReset) { try client.readSome(1) }
      }
    }
    try connect(count)
  }

  @Test func namesItsSockets() {
    let (here, there) = (SocketAddress(.v4(.loopback), 1), SocketAddress(.v4(.loopback), 2))
    let configuration = DataPlaneConfiguration(
      workers: 2,
      listeners: [
        ListenerConfiguration(.forward(to: [there], .outward), on: here),
        ListenerConfiguration(.forward(to: [here], .inward), on: there),
      ], descriptorLimit: 300)
    let socket = IngressSocket.stream(here, isTransparent: false)
    #expect(configuration.ingressSockets == [socket, socket])
  }
}
