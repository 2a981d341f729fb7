import Addressing
import LinuxIO
import SOCKS
import Testing

@testable import DataPlane

/// How associations of the embedded server begin and end.
struct AssociationLifeTests {
  @Test(arguments: [1, 2, 3, 7])
  func handshakeInPieces(pieceBytes: Int) throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server, pieceBytes: pieceBytes)
    let target = try DatagramTarget()
    try client.send([1, 2], to: target.address)
    #expect(target.receive()?.payload == [1, 2])
  }

  @Test func refusedWhereThereIsNone() throws {
    let server = try EmbeddedServer { $0.servesDatagrams = false }
    guard
      case .replied(.commandNotSupported) = server.probe(nil, .stepwise, .udpAssociate)
    else {
      Issue.record("not refused")
      return
    }
    #expect(server.finalCounts()[.associationsOpened] == 0)
  }

  /// The end of the control connection is the end of the association, and its relay is closed; bytes on
  /// it mean nothing.
  @Test(arguments: [true, false])
  func endsWithItsControlConnection(isHalfClosed: Bool) throws {
    let server = try EmbeddedServer(workers: 1)
    let target = try DatagramTarget()
    let relay: SocketAddress
    do {
      let client = try AssociatedClient(of: server)
      relay = client.relay
      let chatter = [UInt8](repeating: 5, count: 300_000)
      _ = chatter.withUnsafeBytes { send(client.control.rawValue, $0) }
      try client.send([1], to: target.address)
      #expect(target.receive()?.payload == [1])
      if isHalfClosed {
        StreamSocket.shutdownSending(client.control.rawValue)
        #expect(client.controlEnds())
      }
    }
    // The one worker answers this after it has seen the end.
    _ = server.probe(nil, .stepwise)
    let sender = try DatagramSocket.connect(to: relay, .init())
    try target.send([1], to: relay)
    let sent = ([1] as [UInt8]).withUnsafeBytes { send(sender.rawValue, $0) }
    guard case .bytes(1) = sent else {
      Issue.record("\(sent)")
      return
    }
    let error = sender.pendingError
    #expect(error == .connectionRefused)
    let counts = server.finalCounts()
    #expect(counts[.associationsOpened] == 1)
    #expect(counts[.associationsClosed] == 1)
    #expect(counts.isIdle)
  }

  @Test func endsWhenNothingIsSent() throws {
    let server = try EmbeddedServer { $0.timeouts.idle = Timeout(milliseconds: 50) }
    let client = try AssociatedClient(of: server)
    #expect(client.controlEnds())
    #expect(server.finalCounts()[.idleTimeout] == 1)
  }

  @Test func endsWithTheServer() throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server)
    let counts = server.finalCounts()
    #expect(client.controlEnds())
    #expect(counts[.associationsClosed] == 1)
    #expect(counts[.endedByShutdown] == 1)
  }

  /// Associations take three descriptors each, and past the budget they are refused; what has ended
  /// makes room.
  @Test func descriptorsAreBounded() throws {
    // Enough for five associations, and for the control connection of a sixth.
    let server = try EmbeddedServer(workers: 1) { $0.descriptorLimit += 17 - $0.sessionDescriptors }
    var clients = try (0..<5).map { _ in try AssociatedClient(of: server) }
    guard case .replied(.generalFailure) = server.probe(nil, .stepwise, .udpAssociate) else {
      Issue.record("not refused")
      return
    }
    clients.removeLast()
    // Until the server has seen both ends, it refuses.
    let target = try DatagramTarget()
    let deadline = Instant.now() + .seconds(10)
    var last: AssociatedClient?
    while last == nil, Instant.now() < deadline { last = try? AssociatedClient(of: server) }
    try #require(last).send([1], to: target.address)
    #expect(target.receive()?.payload == [1])
    let counts = server.finalCounts()
    #expect(counts[.resourcesExhausted] >= 1)
    #expect(counts[.associationsOpened] == counts[.associationsClosed])
    #expect(clients.count == 4)
  }

  /// What the captured side counts is not counted a second time.
  @Test func innerAssociationsAreNotCounted() throws {
    let server = try EmbeddedServer { $0.servesItself = true }
    let client = try AssociatedClient(of: server)
    let target = try DatagramTarget()
    try client.send([1], to: target.address)
    let arrival = try #require(target.receive())
    try target.send([2], to: arrival.source)
    #expect(client.receive()?.payload == [2])
    let counts = server.finalCounts()
    let counters: [Counter] = [
      .sessionsOpened, .associationsOpened, .associationsClosed, .datagramsUpstream,
      .datagramsDownstream, .datagramBytesUpstream, .datagramBytesDownstream,
    ]
    #expect(counters.allSatisfy { counts[$0] == 0 })
    #expect(counts[.innerClosed] == 1)
  }

  /// Many clients at once, each with its own association.
  @Test func manyAssociations() throws {
    let server = try EmbeddedServer(descriptorLimit: 1000)
    let target = try DatagramTarget()
    let clients = try (0..<60).map { _ in try AssociatedClient(of: server) }
    for (index, client) in clients.enumerated() {
      try client.send([UInt8(index)], to: target.address)
    }
    var exits: Set<SocketAddress> = []
    for _ in clients {
      let arrival = try #require(target.receive())
      exits.insert(arrival.source)
      try target.send(arrival.payload, to: arrival.source)
    }
    #expect(exits.count == clients.count)
    for (index, client) in clients.enumerated() {
      #expect(client.receive()?.payload == [UInt8(index)])
    }
  }
}
