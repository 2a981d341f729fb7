import Addressing
import LinuxIO
import SOCKS

@testable import DataPlane

/// A SOCKS client with an association.
final class AssociatedClient {
  let control: Descriptor
  let relay: SocketAddress
  /// What its datagrams come from.
  let socket: DatagramTarget

  struct Refused: Error {
    let outcome: String
  }

  struct Arrival: Equatable {
    let payload: [UInt8]
    /// What the header says.
    let source: SocketAddress
  }

  /// - Parameters:
  ///   - declare: what to declare, from the address of the socket.
  ///   - pieceBytes: the request goes out in pieces of this size.
  init(
    of server: EmbeddedServer, declare: (SocketAddress) -> String = { _ in "0.0.0.0:0" },
    pieceBytes: Int = .max
  ) throws {
    socket = try DatagramTarget(on: server.address.address)
    guard let declared = Endpoint(declare(socket.address)) else {
      throw Refused(outcome: "no endpoint")
    }
    let control = try StreamSocket.connect(to: server.address, mark: nil)
    let deadline = Instant.now() + .seconds(10)
    guard control.wait(for: .writable, until: deadline) else { throw Errno.timedOut }
    var handshake = ClientHandshake(
      .udpAssociate, destination: declared, credentials: nil, mode: .pipelined)
    var bytes: [UInt8] = []
    bytes.append(addingCapacity: ClientHandshake.maximumOutputBytes) { handshake.start(into: &$0) }
    while !bytes.isEmpty {
      let piece = Array(bytes.prefix(pieceBytes))
      bytes.removeFirst(piece.count)
      guard case .bytes(piece.count) = piece.withUnsafeBytes({ LinuxIO.send(control.rawValue, $0) })
      else {
        throw Errno.connectionReset
      }
    }
    relay = try Self.establish(&handshake, on: control, until: deadline)
    self.control = control
  }

  private static func establish(
    _ handshake: inout ClientHandshake, on control: borrowing Descriptor, until deadline: Instant
  ) throws -> SocketAddress {
    while true {
      guard control.wait(for: .readable, until: deadline) else { throw Errno.timedOut }
      var buffer = [UInt8](repeating: 0, count: 512)
      let result = buffer.withUnsafeMutableBytes { LinuxIO.receive(control.rawValue, into: $0) }
      guard case .bytes(let count) = result, count > 0 else { throw Errno.connectionReset }
      var action = ClientHandshake.Action.receive
      var output: [UInt8] = []
      output.append(addingCapacity: ClientHandshake.maximumOutputBytes) {
        action = handshake.receive(buffer.span.extracting(first: count), into: &$0).action
      }
      switch action {
      case .receive: continue
      case .failed(let failure): throw Refused(outcome: "\(failure)")
      case .step, .listening: preconditionFailure("nothing of that was asked for")
      case .established:
        guard case .address(let relay)? = handshake.boundAddress else {
          throw Refused(outcome: "bound to nothing")
        }
        return relay
      }
    }
  }

  /// `payload` behind the header that leads to `target`.
  static func datagram(_ payload: [UInt8], to target: Endpoint) -> [UInt8] {
    var bytes: [UInt8] = []
    switch target {
    case .address(let address):
      bytes.append(addingCapacity: DatagramHeader.maximumAddressBytes) {
        DatagramHeader.encode(address, into: &$0)
      }
    case .name(let name, let port):
      bytes = [0, 0, 0, 3, UInt8(name.text.utf8.count)] + Array(name.text.utf8)
      bytes += [UInt8(port >> 8), UInt8(truncatingIfNeeded: port)]
    }
    return bytes + payload
  }

  func send(_ payload: [UInt8], to target: SocketAddress) throws {
    try socket.send(Self.datagram(payload, to: .address(target)), to: relay)
  }

  /// The next answer; nil if none comes in time, or one without a header.
  func receive(within timeout: Timeout = .seconds(10)) -> Arrival? {
    guard let arrival = socket.receive(within: timeout), arrival.source == relay,
      let header = try? DatagramHeader.decode(from: arrival.payload.span),
      case .address(let source) = header.endpoint
    else { return nil }
    return Arrival(payload: Array(arrival.payload[header.bytes...]), source: source)
  }

  /// Waits for the server to end the control connection; false if it does not, or says something.
  func controlEnds(within timeout: Timeout = .seconds(10)) -> Bool {
    guard control.wait(for: .readable, until: .now() + timeout) else { return false }
    var buffer: [UInt8] = [0]
    switch buffer.withUnsafeMutableBytes({ LinuxIO.receive(control.rawValue, into: $0) }) {
    case .bytes(0), .failed: return true
    case .bytes, .wouldBlock: return false
    }
  }
}
