import Addressing
import LinuxIO
import Testing

@testable import DataPlane

/// Sockets that somebody else has opened for the workers.
struct IngressSocketTests {
  private static let loopback = SocketAddress(.v4(.loopback), 4000)
  private static let loopbackV6 = SocketAddress(.v6(.loopback), 4000)

  private static func configuration(
    workers: Int, _ listeners: [ListenerConfiguration], datagrams: [SocketAddress]? = nil
  ) -> DataPlaneConfiguration {
    var configuration = DataPlaneConfiguration(
      workers: workers, listeners: listeners, descriptorLimit: 300)
    configuration.datagrams = datagrams.map(DatagramConfiguration.init)
    return configuration
  }

  @Test func namesAllThatWorkersNeed() {
    let configuration = Self.configuration(
      workers: 3,
      [
        ListenerConfiguration(.tproxy, on: Self.loopback),
        ListenerConfiguration(.socks, on: Self.loopback),
        ListenerConfiguration(.redirect, on: Self.loopbackV6),
      ], datagrams: [Self.loopback, Self.loopbackV6])
    let tproxy = IngressSocket.stream(Self.loopback, isTransparent: true)
    let redirect = IngressSocket.stream(Self.loopbackV6, isTransparent: false)
    let datagrams: [IngressSocket] = [
      .datagrams(Self.loopback), .replies(isIPv4: true),
      .datagrams(Self.loopbackV6), .replies(isIPv4: false),
    ]
    #expect(
      configuration.ingressSockets == [
        tproxy, tproxy, tproxy, redirect, redirect, redirect,
      ] + datagrams + datagrams)
  }

  @Test func nothingIsCaptured() {
    let configuration = Self.configuration(
      workers: 2, [ListenerConfiguration(.socks, on: Self.loopback)])
    #expect(configuration.ingressSockets.isEmpty)
  }

  /// The workers take what was handed over and open nothing themselves: it listens where no
  /// configuration says.
  @Test func workersTakeTheirs() throws {
    var configuration = Self.configuration(
      workers: 2, [ListenerConfiguration(.redirect, on: Self.loopback)])
    let handed = HandedSockets()
    configuration.handedSockets = handed
    let reservation = try StreamSocket.reservePort(on: .v4(.loopback))
    guard let address = reservation.localAddress else { throw Errno.addressNotAvailable }
    for socket in configuration.ingressSockets {
      handed.add(
        try IngressSocket.stream(address, isTransparent: false).open(mark: nil, replyMark: nil),
        as: socket)
    }
    let dataPlane = try DataPlane(configuration) { _ in }
    let connection = try StreamSocket.connect(to: address, mark: nil)
    let isConnected = connection.wait(for: .writable, until: .now() + .seconds(10))
    let error = connection.pendingError
    #expect(isConnected && error == nil)
    withExtendedLifetime(dataPlane) {}
  }

  /// Loops are looked for where the captured side is ours, and only there.
  @Test(arguments: [true, false])
  func loopDetection(isOn: Bool) throws {
    var configuration = Self.configuration(workers: 1, [])
    configuration.upstream = Upstream(at: .address(Self.loopback), credentials: nil)
    #expect(configuration.detectsLoops)
    configuration.detectsLoops = isOn
    let worker = try Worker(
      configuration, budget: DescriptorBudget(limit: 100),
      quota: AssociationQuota(maximum: 0, maximumPerClient: 0), resolver: Resolver(),
      carrier: nil, report: { _ in })
    #expect((worker.loops != nil) == isOn && (worker.datagramLoops != nil) == isOn)
  }

  @Test func closesWhatNobodyTakes() throws {
    let address: SocketAddress?
    do {
      let handed = HandedSockets()
      let socket = IngressSocket.stream(SocketAddress(.v4(.loopback), 0), isTransparent: false)
      let descriptor = try socket.open(mark: nil, replyMark: nil)
      address = descriptor.localAddress
      handed.add(descriptor, as: socket)
      #expect(throws: Errno.addressInUse) { try StreamSocket.checkFree(#require(address)) }
    }
    try StreamSocket.checkFree(#require(address))
  }
}
