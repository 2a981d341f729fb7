/// Buffers for bytes that a peer did not take, lent only while it blocks.
struct BufferPool: ~Copyable {
  /// Size of each buffer: what one receipt can bring.
  static let bufferBytes = 64 * 1024
  /// Buffers that are kept for the next time; more are freed when they come back.
  static let maximumIdleBuffers = 32

  private var idle: [UnsafeMutableRawPointer] = []
  /// Buffers that hold something now.
  private(set) var lentCount = 0

  deinit { for buffer in idle { buffer.deallocate() } }

  mutating func lend() -> UnsafeMutableRawPointer {
    lentCount += 1
    return idle.popLast() ?? .allocate(byteCount: Self.bufferBytes, alignment: 64)
  }

  mutating func giveBack(_ buffer: UnsafeMutableRawPointer) {
    lentCount -= 1
    if idle.count < Self.maximumIdleBuffers {
      idle.append(buffer)
    } else {
      buffer.deallocate()
    }
  }
}
