package import Addressing
internal import CLinux

/// Receives datagrams in batches (`recvmmsg(2)`), into slots of memory of its own.
package struct DatagramReader: ~Copyable {
  /// Datagrams per batch at most.
  package static let slots = Int(CLX_BATCH)
  private static let slotBytes = Int(CLX_DATAGRAM_BYTES)

  /// What lies in a slot: one datagram, or several that the kernel has joined.
  package struct Received {
    package let bytes: UnsafeRawBufferPointer
    /// Size of each of the joined datagrams, of which the last may be shorter; 0 for a single one.
    package let segment: Int
    /// Nil only for a family that is not IP.
    package let source: SocketAddress?
    /// Where it was sent, for sockets that tell it.
    package let destination: OriginalDestination?
    /// How many datagrams the socket had no room for since it was opened, for sockets that tell it; it
    /// wraps around.
    package let lost: UInt32
  }

  /// What became of an attempt to receive.
  package enum Receipt {
    /// So many slots were filled, at least one, with so many bytes in all.
    case slots(Int, bytes: Int)
    case wouldBlock
    /// The socket's pending error, as from an ICMP message about what it sent; there may be more to
    /// receive.
    case failed(Errno)
  }

  private let batch: UnsafeMutablePointer<clx_receive_batch>
  private let memory: UnsafeMutableRawPointer

  package init() {
    batch = .allocate(capacity: 1)
    // Not touched before it is used, and no memory of the machine before it is touched.
    memory = .allocate(byteCount: Self.slots * Self.slotBytes, alignment: 4096)
  }

  deinit {
    batch.deallocate()
    memory.deallocate()
  }

  /// Gives the memory of the slots back to the system until they are used again; what they hold is lost.
  package mutating func release() {
    clx_release_memory(memory, Self.slots * Self.slotBytes)
  }

  /// Receives into the slots of `range`, from its beginning.
  package mutating func receive(from socket: Int32, into range: Range<Int>) -> Receipt {
    precondition(range.lowerBound >= 0 && range.upperBound <= Self.slots)
    while true {
      // SAFETY: the kernel writes into the slots alone, whose number was checked.
      let result = clx_receive_batch(
        socket, batch, memory, UInt32(range.lowerBound), UInt32(range.count))
      switch result {
      case -Int(EINTR): continue
      case -Int(EAGAIN): return .wouldBlock
      case ..<0: return .failed(Errno(rawValue: Int32(-result)))
      default:
        let bytes = clx_received_bytes(batch, UInt32(range.lowerBound), UInt32(result))
        return .slots(result, bytes: bytes)
      }
    }
  }

  /// What the last receipt that filled this slot brought. The bytes stay until the slot is filled anew.
  package func received(at slot: Int) -> Received {
    precondition(slot >= 0 && slot < Self.slots)
    var received = clx_received()
    // SAFETY: the kernel has filled the slot; `length` is what it wrote, at most the slot's size.
    clx_read_received(batch, UInt32(slot), &received)
    return Received(
      bytes: UnsafeRawBufferPointer(
        start: memory + slot * Self.slotBytes, count: min(received.length, Self.slotBytes)),
      segment: received.segment,
      source: clx_received_source(batch, UInt32(slot)).flatMap { SocketAddress(kernel: $0) },
      destination: withUnsafeBytes(of: received.destination) {
        SocketAddress(kernel: $0.baseAddress!)
      }
      .map(OriginalDestination.init),
      lost: received.lost)
  }
}
