import Addressing
import LinuxIO
import SOCKS
import Testing

@testable import DataPlane

private func bytes(_ count: Int, _ seed: Int = 0) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ seed) }
}

/// `target` gets `payload`, and the client its answer, which is the same.
private func expectEcho(
  _ payload: [UInt8], from client: AssociatedClient, through target: DatagramTarget,
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  try client.send(payload, to: target.address)
  let arrival = try #require(target.receive(), sourceLocation: sourceLocation)
  #expect(arrival.payload == payload, sourceLocation: sourceLocation)
  try target.send(arrival.payload, to: arrival.source)
  let answer = try #require(client.receive(), sourceLocation: sourceLocation)
  #expect(
    answer == AssociatedClient.Arrival(payload: payload, source: target.address),
    sourceLocation: sourceLocation)
}

/// UDP ASSOCIATE of the embedded server, over real sockets and without privilege.
struct ServedAssociationTests {
  private static let hosts: [IPAddress] = [.v4(.loopback), .v6(.loopback)]

  @Test(arguments: hosts, hosts)
  func everySizeEchoes(server host: IPAddress, target: IPAddress) throws {
    let server = try EmbeddedServer(on: host)
    let client = try AssociatedClient(of: server)
    #expect(client.relay.address == host)
    #expect(client.relay.port != 0)
    let target = try DatagramTarget(on: target)
    let largest = 65_507 - DatagramHeader.bytes(for: target.address)
    let sizes = [0, 1, 64, 1_472, 1_473, 1_500, 9_000, 60_000, largest, 0]
    for size in sizes { try expectEcho(bytes(size, size), from: client, through: target) }
    let counts = server.finalCounts()
    #expect(counts[.datagramsUpstream] == UInt64(sizes.count))
    #expect(counts[.datagramsDownstream] == UInt64(sizes.count))
    #expect(counts[.datagramBytesUpstream] == UInt64(sizes.reduce(0, +)))
    #expect(counts[.datagramBytesDownstream] == UInt64(sizes.reduce(0, +)))
    #expect(counts[.associationsOpened] == 1)
    #expect(counts[.associationsClosed] == 1)
    #expect(DatagramDrop.allCases.allSatisfy { counts[$0] == 0 })
  }

  /// What leaves in one system call arrives whole and in order, both ways.
  @Test(arguments: [1, 64, 1_200])
  func bursts(size: Int) throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server)
    let target = try DatagramTarget()
    try expectEcho([0], from: client, through: target)
    let payloads = (0..<200).map { bytes(size, $0) } + [bytes(0), bytes(size - 1)]
    let datagrams = payloads.map { AssociatedClient.datagram($0, to: .address(target.address)) }
    #expect(client.socket.send(all: datagrams, to: client.relay) == payloads.count)
    var exit: SocketAddress?
    for payload in payloads {
      let arrival = try #require(target.receive())
      #expect(arrival.payload == payload)
      exit = arrival.source
    }
    #expect(target.send(all: payloads, to: try #require(exit)) == payloads.count)
    for payload in payloads {
      let answer = try #require(client.receive())
      #expect(answer == AssociatedClient.Arrival(payload: payload, source: target.address))
    }
  }

  /// All targets see one address and port, whatever the order, and each answer says whose it is.
  @Test func manyTargets() throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server)
    let targets = try (0..<16).map { try DatagramTarget(on: Self.hosts[$0 % 2]) }
    let datagrams = (0..<64).map { index in
      AssociatedClient.datagram([UInt8(index)], to: .address(targets[index % 16].address))
    }
    #expect(client.socket.send(all: datagrams, to: client.relay) == datagrams.count)
    var exits: Set<SocketAddress> = []
    for round in 0..<4 {
      for (index, target) in targets.enumerated() {
        let arrival = try #require(target.receive())
        #expect(arrival.payload == [UInt8(round * 16 + index)])
        exits.insert(arrival.source)
        try target.send([UInt8(index)], to: arrival.source)
        let answer = try #require(client.receive())
        #expect(answer == AssociatedClient.Arrival(payload: [UInt8(index)], source: target.address))
      }
    }
    #expect(exits.count == 2)
  }

  /// Anybody can answer where the client is seen.
  @Test func thirdPartyAnswers() throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server)
    let (target, third) = (try DatagramTarget(), try DatagramTarget())
    try client.send([1], to: target.address)
    let arrival = try #require(target.receive())
    try third.send([2, 3], to: arrival.source)
    let answer = try #require(client.receive())
    #expect(answer == AssociatedClient.Arrival(payload: [2, 3], source: third.address))
  }

  @Test func mappedTargetIsIPv4() throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server)
    let target = try DatagramTarget()
    let mapped = try #require(SocketAddress("[::ffff:127.0.0.1]:\(target.address.port)"))
    try client.send([7], to: mapped)
    let arrival = try #require(target.receive())
    try target.send([8], to: arrival.source)
    let answer = try #require(client.receive())
    #expect(answer == AssociatedClient.Arrival(payload: [8], source: target.address))
  }

  // MARK: Names

  @Test(arguments: ["localhost", "127.0.0.1", "::1"])
  func names(text: String) throws {
    let name = try #require(HostName(text))
    let address = try #require(NameResolution.addresses(of: name).first)
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server)
    let target = try DatagramTarget(on: address)
    // Some wait for the look-up, and the last is sent when it has ended.
    let payloads = (0..<ServedNames.maximumWaiting).map { bytes($0 * 100, $0) }
    let datagrams = payloads.map {
      AssociatedClient.datagram($0, to: .name(name, port: target.address.port))
    }
    #expect(client.socket.send(all: datagrams, to: client.relay) == datagrams.count)
    for payload in payloads { #expect(target.receive()?.payload == payload) }
    try client.socket.send(datagrams[1], to: client.relay)
    let last = try #require(target.receive())
    #expect(last.payload == payloads[1])
    try target.send([9], to: last.source)
    #expect(client.receive() == AssociatedClient.Arrival(payload: [9], source: target.address))
  }

  @Test func nameWithoutAddress() throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server)
    let target = try DatagramTarget()
    let name = try #require(HostName("a..b"))
    try client.socket.send(
      AssociatedClient.datagram([1], to: .name(name, port: 9)), to: client.relay)
    try expectEcho([2], from: client, through: target)
    let counts = server.finalCounts()
    // It is dropped when the look-up has failed, or at the end if that comes first.
    #expect(counts[.unsent] + counts[.evicted] == 1)
  }

  // MARK: Who may send

  @Test(arguments: ["[::]:0", "192.0.2.1:9", "name.example:9"])
  func addressesThatSayNothing(declared: String) throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server, declare: { _ in declared })
    try expectEcho([1], from: client, through: try DatagramTarget())
  }

  @Test(arguments: ["127.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]"])
  func declaredPort(address: String) throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server, declare: { "\(address):\($0.port)" })
    let (target, stranger) = (try DatagramTarget(), try DatagramTarget())
    try stranger.send(
      AssociatedClient.datagram([9], to: .address(target.address)), to: client.relay)
    try expectEcho([1], from: client, through: target)
    #expect(target.receiveAll().isEmpty)
  }

  /// Before the client has spoken another host is dropped, and so is what makes no sense; afterwards
  /// every other port is.
  @Test func strangers() throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server)
    let target = try DatagramTarget()
    let host = IPAddress.v4(IPv4Address(bits: IPv4Address.loopback.bits + 1))
    let (stranger, neighbour) = (try DatagramTarget(on: host), try DatagramTarget())
    let datagram = AssociatedClient.datagram([9], to: .address(target.address))
    #expect(stranger.send(all: [datagram, datagram, datagram], to: client.relay) == 3)
    try neighbour.send([0, 0, 0, 9], to: client.relay)
    try expectEcho([1], from: client, through: target)
    try neighbour.send(datagram, to: client.relay)
    try expectEcho([2], from: client, through: target)
    #expect(target.receiveAll().isEmpty)
    #expect(neighbour.receiveAll().isEmpty)
    let counts = server.finalCounts()
    #expect(counts[.sourceNotAllowed] == 3)
    #expect(counts[.malformed] == 1)
    #expect(counts[.datagramsUpstream] == 2)
  }

  // MARK: What is dropped

  @Test func damagedHeaders() throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server)
    let target = try DatagramTarget()
    let sound = AssociatedClient.datagram([], to: .address(target.address))
    var fragment = sound
    fragment[2] = 1
    for datagram in [
      fragment, [], [0], [0, 0, 0], [0, 0, 0, 1, 127], Array(sound.dropLast()),
      [0, 0, 0, 2] + sound,
      [0, 0, 0, 3, 0, 0, 9], [0, 0, 0, 3, 200, 65], [0, 0, 0, 3, 1, 0, 0, 9],
      AssociatedClient.datagram([1], to: .address(SocketAddress(.v4(.loopback), 0))),
    ] { try client.socket.send(datagram, to: client.relay) }
    try expectEcho([1], from: client, through: target)
    #expect(target.receiveAll().isEmpty)
    let counts = server.finalCounts()
    #expect(counts[.fragmented] == 1)
    #expect(counts[.malformed] == 10)
  }

  @Test func answersThatDoNotFit() throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server)
    let target = try DatagramTarget()
    try client.send([1], to: target.address)
    let exit = try #require(target.receive()).source
    let largest = 65_507 - DatagramHeader.bytes(for: target.address)
    try target.send(bytes(largest + 1), to: exit)
    try target.send(bytes(largest), to: exit)
    #expect(client.receive()?.payload.count == largest)
    #expect(server.finalCounts()[.tooLarge] == 1)
  }

  /// A target that refuses what it is sent costs the association nothing.
  @Test func refusedDatagrams() throws {
    let server = try EmbeddedServer()
    let client = try AssociatedClient(of: server)
    let target = try DatagramTarget()
    let nobody = try DatagramTarget().address
    for seed in 0..<4 {
      try client.send([1], to: nobody)
      try expectEcho([UInt8(seed)], from: client, through: target)
    }
  }

  /// A client that has closed its socket does not end the association either.
  @Test func refusedAnswers() throws {
    let server = try EmbeddedServer(workers: 1)
    let client = try AssociatedClient(of: server)
    let target = try DatagramTarget()
    let nobody = try DatagramTarget().address
    // The client declares a port at which it does not listen, and so cannot be asked.
    let deaf = try AssociatedClient(of: server, declare: { _ in "\(nobody)" })
    for _ in 0..<3 { try target.send([1], to: deaf.relay) }
    try expectEcho([1], from: client, through: target)
    #expect(!deaf.controlEnds(within: Timeout(milliseconds: 0)))
  }
}
