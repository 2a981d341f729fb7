internal import Addressing
internal import LinuxIO

/// Places to listen on, with ports that the kernel has chosen where that was left to it (port 0). They stay ours
/// until listeners that share ports are open there.
final class ReservedPorts {
  /// In the order in which they were given.
  private(set) var addresses: [SocketAddress] = []
  /// Owned.
  private var numbers: [Int32] = []

  /// `[::]` and `0.0.0.0` get the same port.
  init(for wanted: [SocketAddress]) throws(CommandFailure) {
    var portOfAny: UInt16?
    for address in wanted {
      let isAny = address.address.isUnspecified
      if address.port > 0 {
        addresses.append(address)
      } else if isAny, let portOfAny {
        addresses.append(SocketAddress(address.address, portOfAny))
      } else {
        let place = try reserve(address)
        addresses.append(place)
        if isAny { portOfAny = place.port }
      }
    }
  }

  deinit { release() }

  func release() {
    for number in numbers { _ = Descriptor(owning: number) }
    numbers = []
  }

  private func reserve(_ wanted: SocketAddress) throws(CommandFailure) -> SocketAddress {
    do throws(Errno) {
      // Of `[::]` without IPV6_V6ONLY, so that the port is free for IPv4 as well.
      let socket = try StreamSocket.reservePort(on: wanted.address)
      guard let place = socket.localAddress else { throw .addressNotAvailable }
      numbers.append(socket.take())
      return place
    } catch {
      throw CommandFailure(listen: wanted, error)
    }
  }
}
