internal import Addressing
internal import DataPlane
internal import LinuxIO

/// The listening sockets that a service manager has opened for the server (`systemd.socket(5)`): it keeps them
/// while no server runs, so that clients wait instead of being refused.
final class ActivatedSockets {
  /// Where they listen; empty if there are none.
  private(set) var addresses: [SocketAddress] = []
  /// Owned, in the order of `addresses`, until they are handed on.
  private var numbers: [Int32] = []

  /// Takes what this process was started with: comes before anything is opened.
  init() throws(CommandFailure) {
    for (number, name) in PassedDescriptors.take() {
      let title = "descriptor \(number), which was handed over as \"\(name)\","
      guard let descriptor = Descriptor.inherited(number),
        descriptor.kind?.transport == .listener, let address = descriptor.localAddress
      else {
        throw CommandFailure(
          "\(title) accepts no TCP connections: give the socket unit ListenStream=ADDRESS:PORT alone",
          .usage)
      }
      guard !address.address.isUnspecified || !descriptor.takesBothFamilies else {
        // Rules for IPv4 clients would not meet them there.
        throw CommandFailure(
          "\(title) takes IPv4 clients for IPv6 ones: give the socket unit BindIPv6Only=ipv6-only",
          .usage)
      }
      addresses.append(address)
      numbers.append(descriptor.take())
    }
  }

  deinit {
    for number in numbers { _ = Descriptor(owning: number) }
  }

  /// Gives every worker a copy of each socket: which of them accepts a connection is the kernel's choice.
  func hand(to plane: inout DataPlaneConfiguration) throws(CommandFailure) {
    let handed = HandedSockets()
    for (address, number) in zip(addresses, numbers) {
      for _ in 0..<plane.workers {
        let copy = try startedUp { () throws(Errno) in try StreamSocket.copy(ofListener: number) }
        handed.add(copy, as: .stream(address, isTransparent: false))
      }
    }
    plane.servingSockets = handed
  }
}
