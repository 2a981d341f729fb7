internal import Addressing
internal import SOCKS

/// What precedes the header of every datagram that goes through the relays of a chain: what a datagram of
/// three hops has is
///
///     +-----------------+-----------------+------------------+---------+
///     | relay of hop 2  | relay of hop 3  | the destination  | payload |
///     +-----------------+-----------------+------------------+---------+
///     |◀──────────── prefix ─────────────▶|   each but the payload a header of RFC 1928, section 7
///
/// The first hop's relay, which it is sent to, takes off the first header and sends the rest to the second
/// hop's, and so on. On the way back each puts one before what it gets, with the address that it came
/// from.
struct NestedHeaders: ~Copyable {
  private struct Layer {
    /// Where the relay is, as the one before it is told.
    let relay: Endpoint
    /// From where it answers: the address of a name is known with the first answer that has its port.
    var source: SocketAddress?

    /// Whether the relay can have sent what comes from `endpoint`.
    mutating func takes(_ endpoint: Endpoint) -> Bool {
      guard case .address(let address) = endpoint else { return endpoint == relay }
      if let source { return address.unmapped == source }
      guard address.port == relay.port else { return false }
      source = address.unmapped
      return true
    }
  }

  private let memory: UnsafeMutableBufferPointer<UInt8>
  private var layers: [Layer]

  /// - Parameter relays: of the second hop, and all behind it.
  init(_ relays: [Endpoint]) {
    var bytes = 0
    for relay in relays { bytes += DatagramHeader.bytes(for: relay) }
    let memory = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes)
    layers = relays.map { relay in
      guard case .address(let address) = relay else { return Layer(relay: relay) }
      return Layer(relay: relay, source: address.unmapped)
    }
    // SAFETY: the memory has room for all headers, and the span does not outlive this.
    var output = OutputSpan(buffer: memory, initializedCount: 0)
    for relay in relays { DatagramHeader.encode(relay, into: &output) }
    _ = output.finalize(for: memory)
    self.memory = memory
  }

  deinit { memory.deallocate() }

  /// What precedes the header of a datagram to its destination; it stays as long as this value.
  var prefix: UnsafeRawBufferPointer { UnsafeRawBufferPointer(memory) }

  /// What the last hop's relay has sent: its header, and the payload. Throws why an answer that did not
  /// come by way of all relays is dropped.
  mutating func unwrap(
    _ datagram: UnsafeRawBufferPointer
  ) throws(DatagramDrop) -> UnsafeRawBufferPointer {
    // As a rule each relay is told in an answer as it was in what was sent.
    if datagram.starts(with: prefix) {
      return UnsafeRawBufferPointer(rebasing: datagram[prefix.count...])
    }
    var rest = datagram
    for index in layers.indices {
      let header: DatagramHeader
      do {
        header = try DatagramHeader.decode(from: rest.bindMemory(to: UInt8.self).span)
      } catch {
        throw DatagramDrop(error)
      }
      guard layers[index].takes(header.endpoint) else { throw .sourceNotAllowed }
      rest = UnsafeRawBufferPointer(rebasing: rest[header.bytes...])
    }
    return rest
  }
}
