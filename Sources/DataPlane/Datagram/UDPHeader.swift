internal import Addressing

/// The header of a datagram (RFC 768), for those that we make ourselves:
///
///     +-------------+------------------+--------+----------+
///     | source port | destination port | length | checksum |
///     +-------------+------------------+--------+----------+
///     | 2           | 2                | 2      | 2        |   all in network byte order
///     +-------------+------------------+--------+----------+
enum UDPHeader {
  static let bytes = 8
  /// What a datagram can carry over IPv4 (65,535 less both headers) and, here, over IPv6.
  static let maximumPayloadBytes = 65_507

  private static let protocolNumber: UInt16 = 17

  /// Writes the header of `payload` to `memory`. Over IPv6 the kernel fills in the checksum.
  static func write(
    to memory: UnsafeMutableRawBufferPointer, from source: SocketAddress,
    to destination: SocketAddress,
    _ payload: UnsafeRawBufferPointer
  ) {
    let length = UInt16(bytes + payload.count).bigEndian
    memory.storeBytes(of: source.port.bigEndian, toByteOffset: 0, as: UInt16.self)
    memory.storeBytes(of: destination.port.bigEndian, toByteOffset: 2, as: UInt16.self)
    memory.storeBytes(of: length, toByteOffset: 4, as: UInt16.self)
    var checksum: UInt16 = 0
    if case .v4(let from) = source.address, case .v4(let to) = destination.address {
      var sum = InternetChecksum()
      // The pseudo header: both addresses, protocol, length.
      sum.add(from.bits.bigEndian)
      sum.add(to.bits.bigEndian)
      sum.add(protocolNumber.bigEndian)
      sum.add(length)
      sum.add(source.port.bigEndian)
      sum.add(destination.port.bigEndian)
      sum.add(length)
      sum.add(payload)
      // Zero would mean that there is none.
      checksum = sum.value == 0 ? 0xFFFF : sum.value
    }
    memory.storeBytes(of: checksum, toByteOffset: 6, as: UInt16.self)
  }
}
