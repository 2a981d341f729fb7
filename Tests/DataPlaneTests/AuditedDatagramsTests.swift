import Addressing
import LinuxIO
import Testing

@testable import DataPlane

/// What captured datagrams leave in the audit, without rules: the socket that captures them is not where
/// the configuration says, so that what is sent to it was not meant for us.
@Suite(
  .enabled(
    if: System.hasNetworkAdministration,
    "capturing datagrams needs CAP_NET_ADMIN, answering them CAP_NET_RAW"))
struct AuditedDatagramsTests {
  private static let resolver = SocketAddress(.v4(IPv4Address(bits: 0xC000_0235)), 53)

  private final class Engine {
    let audit = Audit()
    /// To where datagrams are sent that are captured.
    let destination: SocketAddress
    let client: DatagramTarget
    private let dataPlane: DataPlane

    init(
      upstream: SocketAddress, _ configure: (inout DatagramConfiguration) -> Void = { _ in }
    ) throws {
      let host = IPAddress.v4(.loopback)
      let socket = try IngressSocket.datagrams(SocketAddress(host, 0)).open(
        mark: nil, replyMark: nil)
      guard let address = socket.localAddress else { throw Errno.addressNotAvailable }
      destination = address
      let handed = HandedSockets()
      handed.add(socket, as: .datagrams(SocketAddress(host, 1)))
      handed.add(
        try IngressSocket.replies(isIPv4: true).open(mark: nil, replyMark: nil),
        as: .replies(isIPv4: true))
      var configuration = DataPlaneConfiguration(workers: 1, listeners: [], descriptorLimit: 300)
      configuration.upstream = Upstream(at: .address(upstream), credentials: nil)
      var datagrams = DatagramConfiguration(listeners: [SocketAddress(host, 1)])
      configure(&datagrams)
      configuration.datagrams = datagrams
      configuration.handedSockets = handed
      configuration.audit = audit
      client = try DatagramTarget()
      dataPlane = try DataPlane(configuration) { _ in }
      try dataPlane.start()
    }

    func stop() { dataPlane.stop() }

    deinit { stop() }
  }

  private func address(_ bytes: [UInt8], _ port: UInt16) -> [UInt8] {
    [1] + bytes + [UInt8(port >> 8), UInt8(truncatingIfNeeded: port)]
  }

  /// Plays the upstream's part in UDP ASSOCIATE, and gives the relay's address or refuses.
  private func associate(
    _ connection: borrowing ScriptedConnection, relay: UInt16, code: UInt8 = 0
  ) throws {
    #expect(try connection.read(3) == [5, 1, 0])
    try connection.write([5, 0])
    #expect(try connection.read(10)[..<3] == [5, 3, 0])
    try connection.write([5, code, 0] + address([127, 0, 0, 1], relay))
  }

  /// Datagrams and their answers, an answer from somebody else, and the name that one of them tells.
  @Test func association() throws {
    let server = try ScriptedUpstream()
    let relay = try DatagramTarget()
    let engine = try Engine(upstream: server.address)
    try engine.client.send([1, 2, 3], to: engine.destination)
    let connection = try server.accept()
    try associate(connection, relay: relay.address.port)
    let header = [0, 0, 0] + address([127, 0, 0, 1], engine.destination.port)
    let arrival = try #require(relay.receive())
    #expect(arrival.payload == header + [1, 2, 3])
    try engine.client.send([4], to: engine.destination)
    #expect(relay.receive()?.payload == header + [4])

    // What pretends to come from this host is dropped, and no traffic.
    try relay.send(header + [9], to: arrival.source)
    try relay.send([0, 0, 0] + address([192, 0, 2, 9], 9) + [5, 6], to: arrival.source)
    #expect(engine.client.receive()?.payload == [5, 6])
    let answer: [UInt8] =
      [0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0x61, 0, 0, 1, 0, 1]
      + [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]
    try relay.send([0, 0, 0] + address([192, 0, 2, 53], 53) + answer, to: arrival.source)
    #expect(engine.client.receive()?.payload == answer)
    engine.stop()
    #expect(
      engine.audit.entries() == [
        .init(
          destination: .init(.udp, Self.resolver),
          traffic: .init(flows: 1, received: UInt64(answer.count)), name: nil),
        .init(
          destination: .init(.udp, engine.destination),
          traffic: .init(flows: 1, sent: 4), name: "a"),
        .init(
          destination: .init(.udp, SocketAddress(.v4(IPv4Address(bits: 0xC000_0209)), 9)),
          traffic: .init(flows: 1, received: 2), name: nil),
      ])
  }

  /// An upstream without UDP: what waited is one flow, and what comes later another.
  @Test func refusedAssociation() throws {
    let server = try ScriptedUpstream()
    let engine = try Engine(upstream: server.address)
    try engine.client.send([1], to: engine.destination)
    let connection = try server.accept()
    try associate(connection, relay: 1, code: 7)
    try connection.readToTheEnd()
    try engine.client.send([2], to: engine.destination)
    let deadline = Instant.now() + .seconds(10)
    while engine.audit.entries().first?.traffic.flows != 2, Instant.now() < deadline {}
    engine.stop()
    #expect(
      engine.audit.entries() == [
        .init(
          destination: .init(.udp, engine.destination), traffic: .init(flows: 2, failed: 2),
          name: nil)
      ])
  }

  /// More destinations than an association keeps are recorded as they come.
  @Test func manyDestinations() {
    var traffic = AssociationTraffic()
    let audit = Audit()
    for port in 0..<1000 as Range<UInt16> {
      let destination = SocketAddress(.v4(.loopback), port)
      if traffic.isFull(for: destination) {
        traffic.removeAll { audit.record($1, .init(.udp, $0)) }
      }
      traffic.add(with: destination, sent: 1, received: 0)
      #expect(!traffic.isFull(for: destination))
    }
    #expect(audit.entries().count == 768)
    traffic.removeAll { audit.record($1, .init(.udp, $0)) }
    #expect(
      audit.entries().map(\.traffic) == Array(repeating: .init(flows: 1, sent: 1), count: 1000))
  }
}
