internal import Addressing
internal import LinuxIO
internal import SOCKS

/// The way back to the clients: datagrams of a whole turn are collected, and leave through one raw
/// socket per family as from the address that the client has talked to.
struct ReplyPath: ~Copyable {
  /// Slots that one receipt may fill.
  static let slotsPerReceipt = 16

  var reader = DatagramReader()
  /// Slots of the reader whose contents have not been sent.
  var usedSlots = 0
  private var v4 = DatagramWriter()
  private var v6 = DatagramWriter()
  private var socketV4: Descriptor?
  private var socketV6: Descriptor?

  /// Sends datagrams of a family through `socket` from now on.
  mutating func use(_ socket: consuming Descriptor, isIPv4: Bool) {
    if isIPv4 { socketV4 = consume socket } else { socketV6 = consume socket }
  }

  var isEmpty: Bool { v4.count == 0 && v6.count == 0 }

  /// Whether another datagram of `family` has to wait for `flush`.
  func isFull(isIPv4: Bool) -> Bool { isIPv4 ? !v4.hasRoom(parts: 2) : !v6.hasRoom(parts: 2) }

  /// Adds a datagram, whose payload must stay where it is until it is sent. Both addresses are of one
  /// family.
  mutating func append(
    _ payload: UnsafeRawBufferPointer, from source: SocketAddress, to client: SocketAddress
  ) {
    if client.address.isIPv4 {
      Self.append(payload, from: source, to: client, in: &v4)
    } else {
      Self.append(payload, from: source, to: client, in: &v6)
    }
  }

  private static func append(
    _ payload: UnsafeRawBufferPointer, from source: SocketAddress, to client: SocketAddress,
    in writer: inout DatagramWriter
  ) {
    writer.begin(to: client.address, from: source.address)
    let header = UnsafeMutableRawBufferPointer(
      rebasing: UnsafeMutableRawBufferPointer(writer.header)[..<UDPHeader.bytes])
    UDPHeader.write(to: header, from: source, to: client, payload)
    writer.append(UnsafeRawBufferPointer(header))
    writer.append(payload)
  }

  /// Sends everything; returns how many datagrams the kernel did not take.
  mutating func flush() -> Int {
    var unsent = 0
    if v4.count > 0 { unsent += Self.flush(&v4, by: socketV4?.rawValue) }
    if v6.count > 0 { unsent += Self.flush(&v6, by: socketV6?.rawValue) }
    return unsent
  }

  /// What one client cannot be sent is no reason to keep anything from the others.
  private static func flush(_ writer: inout DatagramWriter, by socket: Int32?) -> Int {
    defer { writer.removeAll() }
    guard let socket else { return writer.count }
    var (index, unsent) = (0, 0)
    while index < writer.count {
      switch writer.send(by: socket, from: index) {
      case .sent(let next): index = next
      case .failed:
        unsent += 1
        index += 1
      }
    }
    return unsent
  }
}
