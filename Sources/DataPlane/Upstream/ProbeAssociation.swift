package import Addressing
package import LinuxIO
internal import SOCKS

/// A UDP association of our own with a lone upstream, off every flow's path; blocks its thread. It lasts as
/// long as its control connection, which belongs to it.
package final class ProbeAssociation {
  /// How long an answer is waited for before the question is sent again, elsewhere if there is somewhere
  /// else.
  private static let patience = Timeout(milliseconds: 700)

  private let control: ProbeConnection
  private let socket: Descriptor
  /// Where the upstream may take datagrams: the most probable first.
  private let relays: [SocketAddress]
  private var relay = 0

  /// Nil if the upstream has told no place.
  /// - Parameter control: has asked for an association, and been granted it.
  package init?(_ control: ProbeConnection) throws(Errno) {
    self.control = control
    let bound = control.bound
    var relays: [SocketAddress] = []
    for prefersControl in [false, true] {
      let relay = RelayPlace.automatic.resolve(
        reported: bound.address, port: bound.port, control: control.upstream.place.control,
        prefersControl: prefersControl)
      if let relay, !relays.contains(relay) { relays.append(relay) }
    }
    guard let first = relays.first else { return nil }
    self.relays = relays
    socket = try DatagramSocket.connect(to: first, DatagramSocket.Options(mark: control.mark))
    control.channel?.expectDatagrams()
  }

  /// Sends a payload to `target` until something that is its answer comes back, or the deadline.
  /// - Parameter isAnswer: of a payload that has come.
  package func ask(
    _ payload: [UInt8], at target: SocketAddress, until deadline: Instant,
    isAnswer: ([UInt8]) -> Bool
  ) -> Bool {
    while Instant.now() < deadline {
      send(payload, to: target)
      let turn = min(deadline, .now() + Self.patience)
      while socket.wait(for: .readable, until: turn) {
        if let payload = receive(), isAnswer(payload) { return true }
      }
      if relays.count > 1 {
        relay = (relay + 1) % relays.count
        try? DatagramSocket.connect(socket, to: relays[relay])
      }
    }
    return false
  }

  /// Sends one datagram. What goes wrong shows in what does not come back.
  package func send(_ payload: [UInt8], to target: SocketAddress) {
    var datagram: [UInt8] = []
    datagram.append(addingCapacity: DatagramHeader.maximumAddressBytes) {
      DatagramHeader.encode(target, into: &$0)
    }
    datagram += payload
    if let channel = control.channel {
      guard let message = try? channel.message(with: datagram) else { return }
      datagram = message
    }
    _ = datagram.withUnsafeBytes { LinuxIO.send(socket.rawValue, $0) }
  }

  /// The payload that waits, if there is one.
  private func receive() -> [UInt8]? {
    let datagram: [UInt8]? = withUnsafeTemporaryAllocation(
      byteCount: 1 << 16, alignment: 16
    ) { buffer in
      guard case .bytes(let count) = LinuxIO.receive(socket.rawValue, into: buffer) else {
        return nil
      }
      guard let channel = control.channel else { return Array(buffer[..<count]) }
      return try? channel.bytes(in: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    }
    guard let datagram, let header = try? DatagramHeader.decode(from: datagram.span) else {
      return nil
    }
    return Array(datagram[header.bytes...])
  }
}
