package import Addressing
internal import CLinux

/// Collects datagrams and sends them in batches (`sendmmsg(2)`). Each is gathered from a header, which
/// is copied, and parts, which must stay where they are until it is sent.
package struct DatagramWriter: ~Copyable {
  /// Datagrams, or runs of datagrams of one size, per batch at most.
  package static let capacity = Int(CLX_BATCH)
  /// Parts of the whole batch at most.
  package static let maximumParts = Int(CLX_BATCH_PARTS)
  package static let maximumHeaderBytes = Int(CLX_HEADER_BYTES)

  /// What became of an attempt to send.
  package enum Result {
    /// Everything from the given message up to this one, exclusively, has left.
    case sent(upTo: Int)
    /// The message at which it began was not taken.
    case failed(Errno)
  }

  private let batch: UnsafeMutablePointer<clx_send_batch>

  package init() {
    batch = .allocate(capacity: 1)
    batch.pointee.message_count = 0
    batch.pointee.part_count = 0
  }

  deinit { batch.deallocate() }

  package var count: Int { Int(batch.pointee.message_count) }
  package var partCount: Int { Int(batch.pointee.part_count) }

  /// Whether there is room for one more message of so many parts.
  package func hasRoom(parts: Int) -> Bool {
    count < Self.capacity && partCount + parts <= Self.maximumParts
  }

  /// Begins a message to the peer of a connected socket.
  package mutating func begin() {
    precondition(count < Self.capacity, "the batch is full")
    clx_begin_message(batch)
  }

  /// Begins a message to `address`.
  package mutating func begin(to address: SocketAddress) {
    begin()
    address.withKernelAddress { clx_set_name(batch, $0, $1) }
  }

  /// Begins a message to `address` that comes from `source`, which need not be an address of this host
  /// if the socket is transparent.
  package mutating func begin(to address: IPAddress, from source: IPAddress) {
    begin(to: SocketAddress(address, 0))
    SocketAddress(source, 0).withKernelAddress { address, _ in clx_set_source(batch, address) }
  }

  /// The header of the last message, to be written and then appended, as often as it is to be sent.
  package var header: UnsafeMutableBufferPointer<UInt8> {
    precondition(count > 0)
    return UnsafeMutableBufferPointer(
      start: clx_message_header(batch), count: Self.maximumHeaderBytes)
  }

  /// Adds bytes to the last message.
  package mutating func append(_ bytes: UnsafeRawBufferPointer) {
    precondition(count > 0 && partCount < Self.maximumParts, "the batch is full")
    clx_add_part(batch, bytes.baseAddress, bytes.count)
  }

  /// The last message leaves as datagrams of this size, the last of which may be shorter
  /// (`UDP_SEGMENT`).
  package mutating func cutLastMessage(every bytes: Int) {
    precondition(count > 0)
    clx_set_segment(batch, UInt16(bytes))
  }

  /// Sends from the message at `index` on, as far as the kernel takes them.
  package mutating func send(by socket: Int32, from index: Int) -> Result {
    while true {
      // SAFETY: the messages below `count` are complete, and their parts are still there.
      let result = clx_send_batch(socket, batch, UInt32(index))
      switch result {
      case -Int(EINTR): continue
      case ..<0: return .failed(Errno(rawValue: Int32(-result)))
      default: return .sent(upTo: index + result)
      }
    }
  }

  /// Forgets everything.
  package mutating func removeAll() {
    batch.pointee.message_count = 0
    batch.pointee.part_count = 0
  }
}
