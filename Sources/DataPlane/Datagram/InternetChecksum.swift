/// The Internet checksum (RFC 1071): the one's complement of the one's complement sum of all 16-bit
/// words. In the sum byte order does not matter, so that it is done in the host's.
struct InternetChecksum {
  private var sum: UInt64 = 0

  /// Adds a 16-bit word as it stands in memory.
  mutating func add(_ word: UInt16) { sum += UInt64(word) }

  /// Adds a 32-bit word as it stands in memory.
  mutating func add(_ word: UInt32) { sum += UInt64(word) }

  /// Adds the last part of what is summed: one that has an odd number of bytes ends it.
  mutating func add(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return }
    var total: UInt64 = 0
    let words = bytes.count / 4
    for index in 0..<words {
      total &+= UInt64((start + index * 4).loadUnaligned(as: UInt32.self))
    }
    var rest: UInt32 = 0
    withUnsafeMutableBytes(of: &rest) { rest in
      for (index, byte) in bytes[(words * 4)...].enumerated() { rest[index] = byte }
    }
    sum += total + UInt64(rest)
  }

  /// As it is written to memory.
  var value: UInt16 {
    var folded = sum
    while folded > 0xFFFF { folded = folded & 0xFFFF + folded >> 16 }
    return ~UInt16(truncatingIfNeeded: folded)
  }
}
