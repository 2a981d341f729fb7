internal import Addressing
internal import SOCKS

/// A header is refused, or lies within the datagram and is as long as what it holds; one with an
/// address is, from its fourth byte on, what that address encodes to.
func fuzz(_ datagram: Span<UInt8>) {
  guard let header = try? DatagramHeader.decode(from: datagram) else { return }
  precondition(header.bytes <= datagram.count, "the header ends outside the datagram")
  switch header.endpoint {
  case .name:
    precondition(header.bytes == 3 + 2 + Int(datagram[4]) + 2, "the length is another name's")
  case .address(let address):
    precondition(header.bytes == DatagramHeader.bytes(for: address), "the length is another's")
    var encoded: [UInt8] = []
    encoded.append(addingCapacity: DatagramHeader.maximumAddressBytes) {
      DatagramHeader.encode(address, into: &$0)
    }
    precondition(encoded.count == header.bytes, "encodes to another length")
    for index in 3..<header.bytes {
      precondition(encoded[index] == datagram[index], "encodes to other bytes")
    }
  }
}
