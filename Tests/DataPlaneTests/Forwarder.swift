import Addressing
import LinuxIO

@testable import DataPlane

/// A data plane that forwards a port of its own to `targets`.
final class Forwarder: Sendable {
  let address: SocketAddress
  let dataPlane: DataPlane

  init(
    to targets: [SocketAddress], _ forwarding: Forwarding,
    starts: Bool = true, _ configure: (inout DataPlaneConfiguration) -> Void = { _ in }
  ) throws {
    let reservation = try StreamSocket.reservePort(on: .v4(.loopback))
    guard let address = reservation.localAddress else { throw Errno.addressNotAvailable }
    var configuration = DataPlaneConfiguration(
      workers: 1,
      listeners: [ListenerConfiguration(.forward(to: targets, forwarding), on: address)],
      descriptorLimit: 300)
    configure(&configuration)
    self.address = address
    dataPlane = try DataPlane(configuration) { _ in }
    if starts { try dataPlane.start() }
  }

  deinit { dataPlane.stop() }

  func connect() throws -> ScriptedConnection {
    ScriptedConnection(socket: try StreamSocket.connect(to: address, mark: nil))
  }

  func finalCounts() -> Snapshot {
    dataPlane.stop()
    return dataPlane.snapshot()
  }
}
