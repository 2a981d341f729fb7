internal import Addressing
internal import SOCKS

/// A header with an address, as it precedes a payload.
struct EncodedHeader {
  private(set) var bytes = [22 of UInt8](repeating: 0)
  /// How many of the bytes there are.
  let count: Int

  init(_ address: SocketAddress) {
    count = DatagramHeader.bytes(for: address)
    withUnsafeMutableBytes(of: &bytes) { bytes in
      let buffer = bytes.bindMemory(to: UInt8.self)
      // SAFETY: the buffer has room for the longest header with an address, and the span does not
      // outlive the call.
      var output = OutputSpan(buffer: buffer, initializedCount: 0)
      DatagramHeader.encode(address, into: &output)
      _ = output.finalize(for: buffer)
    }
  }
}
