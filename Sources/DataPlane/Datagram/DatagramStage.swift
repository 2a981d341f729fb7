internal import LinuxIO

/// Where small datagrams are put together when they arrive faster than they can be sent, so that each
/// association has several in a row: sending is by far the dearest part, and costs hardly more for a
/// run of equal datagrams than for one.
struct DatagramStage: ~Copyable {
  /// Bytes at most; memory that is held only while datagrams come that fast.
  static let bytes = 4 << 20
  /// Receipts at most, so that other flows do not wait for longer than some milliseconds.
  static let maximumReceipts = 4096
  /// Mean size of the receipts of a batch from which on copying is not worth it: they are runs already.
  static let maximumMeanBytes = 2048

  private var memory: UnsafeMutableRawPointer?
  private var used = 0

  deinit { memory?.deallocate() }

  /// Whether a batch should be staged: there is probably more to come, and there is room.
  func isWorthwhile(_ receipts: Int, _ bytes: Int) -> Bool {
    receipts == DatagramReader.slots && bytes <= receipts * Self.maximumMeanBytes
      && used + bytes <= Self.bytes
  }

  /// Copies bytes, for which there is room.
  mutating func add(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    precondition(used + bytes.count <= Self.bytes)
    let memory = memory ?? .allocate(byteCount: Self.bytes, alignment: 64)
    self.memory = memory
    let copy = UnsafeMutableRawBufferPointer(start: memory + used, count: bytes.count)
    copy.copyMemory(from: bytes)
    used += bytes.count
    return UnsafeRawBufferPointer(copy)
  }

  /// Forgets what was staged; the memory stays.
  mutating func removeAll() { used = 0 }

  /// Gives the memory back.
  mutating func release() {
    memory?.deallocate()
    memory = nil
    used = 0
  }
}
