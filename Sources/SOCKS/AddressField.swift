internal import Addressing

/// An address and a port as requests and replies carry them (RFC 1928, sections 4 to 6):
///
///     +------+----------+------+
///     | ATYP | ADDR     | PORT |
///     +------+----------+------+
///     | 1    | variable | 2    |   port in network byte order
///     +------+----------+------+
enum AddressField {
  /// A name of 255 bytes: type, length, name, port.
  static let maximumBytes = 1 + 1 + 255 + 2
  /// An IPv6 address: type, address, port.
  static let maximumAddressBytes = 1 + 16 + 2

  private static let ipv4: UInt8 = 1
  private static let name: UInt8 = 3
  private static let ipv6: UInt8 = 4

  static func encode(_ endpoint: Endpoint, into output: inout OutputSpan<UInt8>) {
    switch endpoint {
    case .address(let address):
      encode(address, into: &output)
    case .name(let name, let port):
      output.append(Self.name)
      output.append(UInt8(name.text.utf8.count))
      for byte in name.text.utf8 { output.append(byte) }
      append(port, to: &output)
    }
  }

  static func encode(_ address: SocketAddress, into output: inout OutputSpan<UInt8>) {
    switch address.address {
    case .v4(let v4):
      output.append(ipv4)
      append(v4.bits, to: &output)
    case .v6(let v6):
      output.append(ipv6)
      append(v6.high, to: &output)
      append(v6.low, to: &output)
    }
    append(address.port, to: &output)
  }

  /// Reads the field that begins at `start`; nil for a name that no host can have. The number of
  /// bytes needed counts from the beginning of `bytes`.
  static func decode(
    from bytes: Span<UInt8>, at start: Int
  ) throws(Violation) -> Decoding<Endpoint?> {
    guard bytes.count > start else { return .incomplete(neededBytes: start + 1) }
    let address = start + 1
    switch bytes[start] {
    case ipv4:
      let port = address + 4
      guard bytes.count >= port + 2 else { return .incomplete(neededBytes: port + 2) }
      let v4 = IPv4Address(bits: integer(in: bytes, at: address))
      return .complete(.address(SocketAddress(.v4(v4), integer(in: bytes, at: port))))
    case ipv6:
      let port = address + 16
      guard bytes.count >= port + 2 else { return .incomplete(neededBytes: port + 2) }
      let v6 = IPv6Address(
        high: integer(in: bytes, at: address), low: integer(in: bytes, at: address + 8))
      return .complete(.address(SocketAddress(.v6(v6), integer(in: bytes, at: port))))
    case name:
      guard bytes.count > address else { return .incomplete(neededBytes: address + 1) }
      let text = address + 1
      let port = text + Int(bytes[address])
      guard bytes.count >= port + 2 else { return .incomplete(neededBytes: port + 2) }
      guard let utf8 = try? UTF8Span(validating: bytes.extracting(text..<port)),
        let name = HostName(String(copying: utf8))
      else { return .complete(nil) }
      return .complete(.name(name, port: integer(in: bytes, at: port)))
    default:
      throw .unknownAddressType(bytes[start])
    }
  }

  /// Where a field that begins at `start` ends.
  static func end(of endpoint: Endpoint, from start: Int) -> Int {
    switch endpoint {
    case .address(let address): start + (address.address.isIPv4 ? 1 + 4 + 2 : maximumAddressBytes)
    case .name(let name, _): start + 1 + 1 + name.text.utf8.count + 2
    }
  }

  /// The port of a whole field that begins at `start` and has a name, whatever the name is.
  static func portBehindName(in bytes: Span<UInt8>, at start: Int) -> UInt16 {
    integer(in: bytes, at: start + 2 + Int(bytes[start + 1]))
  }

  private static func append<Value: FixedWidthInteger>(
    _ value: Value, to output: inout OutputSpan<UInt8>
  ) {
    for shift in stride(from: Value.bitWidth - 8, through: 0, by: -8) {
      output.append(UInt8(truncatingIfNeeded: value >> Value(shift)))
    }
  }

  private static func integer<Value: FixedWidthInteger>(
    in bytes: Span<UInt8>, at offset: Int
  ) -> Value {
    var value: Value = 0
    for index in offset..<offset + Value.bitWidth / 8 {
      value = value << 8 | Value(truncatingIfNeeded: bytes[index])
    }
    return value
  }
}
