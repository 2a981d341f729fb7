package import Addressing

/// What precedes the payload of every datagram between client and relay (RFC 1928, section 7):
///
///     +-----+------+---------------+
///     | RSV | FRAG | address field |
///     +-----+------+---------------+
///     | 2   | 1    | variable      |   RSV is 0
///     +-----+------+---------------+
///
/// The address is the payload's destination on the way to the relay, and its source on the way back.
/// RSV is not checked: real peers leave garbage in it.
package struct DatagramHeader: Hashable, Sendable {
  /// What an encoded header with an address takes at most.
  package static let maximumAddressBytes = 3 + AddressField.maximumAddressBytes

  package let endpoint: Endpoint
  /// Where the payload begins.
  package let bytes: Int

  /// Why a datagram is dropped.
  package enum Problem: Error, Hashable, Sendable {
    /// It ends before its header does.
    case truncated
    /// It is a part of a larger one, which nobody is obliged to put together, and nobody sends.
    case fragment(UInt8)
    case unknownAddressType(UInt8)
    /// It names a host by a text that cannot be one.
    case invalidName
  }

  /// What an encoded header with `address` takes.
  package static func bytes(for address: SocketAddress) -> Int {
    AddressField.end(of: .address(address), from: 3)
  }

  package static func encode(_ address: SocketAddress, into output: inout OutputSpan<UInt8>) {
    for _ in 0..<3 { output.append(0) }
    AddressField.encode(address, into: &output)
  }

  /// What an encoded header with `endpoint` takes.
  package static func bytes(for endpoint: Endpoint) -> Int {
    AddressField.end(of: endpoint, from: 3)
  }

  package static func encode(_ endpoint: Endpoint, into output: inout OutputSpan<UInt8>) {
    for _ in 0..<3 { output.append(0) }
    AddressField.encode(endpoint, into: &output)
  }

  /// Reads the header of a whole datagram.
  package static func decode(from datagram: Span<UInt8>) throws(Problem) -> DatagramHeader {
    guard datagram.count > 3 else { throw .truncated }
    guard datagram[2] == 0 else { throw .fragment(datagram[2]) }
    let decoding: Decoding<Endpoint?>
    do throws(Violation) {
      decoding = try AddressField.decode(from: datagram, at: 3)
    } catch {
      throw .unknownAddressType(datagram[3])
    }
    switch decoding {
    case .incomplete: throw .truncated
    case .complete(nil): throw .invalidName
    case .complete(let endpoint?):
      return DatagramHeader(endpoint: endpoint, bytes: AddressField.end(of: endpoint, from: 3))
    }
  }
}
