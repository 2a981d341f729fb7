import Addressing
import LinuxIO
import SOCKS

@testable import DataPlane

/// A data plane with the embedded server only, on a loopback port of its own.
final class EmbeddedServer: Sendable {
  let address: SocketAddress
  let dataPlane: DataPlane

  init(
    on host: IPAddress = .v4(.loopback), credentials: Credentials? = nil, workers: Int = 2,
    descriptorLimit: Int = 300, _ configure: (inout DataPlaneConfiguration) -> Void = { _ in }
  ) throws {
    let reservation = try StreamSocket.reservePort(on: host)
    guard let address = reservation.localAddress else { throw Errno.addressNotAvailable }
    var configuration = DataPlaneConfiguration(
      workers: workers, listeners: [ListenerConfiguration(.socks, on: address)],
      descriptorLimit: descriptorLimit)
    configuration.serverLogins = credentials.map { Logins($0) }
    configure(&configuration)
    self.address = address
    dataPlane = try DataPlane(configuration) { _ in }
    try dataPlane.start()
  }

  deinit { dataPlane.stop() }

  /// What a client with these credentials gets.
  func probe(
    _ credentials: Credentials?, _ mode: ClientHandshake.Mode, _ command: SOCKS.Command = .connect
  ) -> UpstreamProbe.Outcome {
    UpstreamProbe.run(
      Upstream(at: .address(address), credentials: credentials), command, mode: mode, mark: nil,
      timeout: .seconds(10))
  }

  /// What has been counted when all workers have ended.
  func finalCounts() -> Snapshot {
    dataPlane.stop()
    return dataPlane.snapshot()
  }
}
