internal import Addressing

/// Datagrams that wait until their association is there, in order, in one piece of memory.
struct WaitingDatagrams: ~Copyable {
  /// Datagrams at most, and bytes at most except for a single one.
  static let maximumCount = 64
  static let maximumBytes = 256 * 1024

  private struct Entry {
    let destination: SocketAddress
    let range: Range<Int>
  }

  private var entries: [Entry] = []
  private var bytes: [UInt8] = []

  var count: Int { entries.count }
  /// Of all payloads.
  var byteCount: Int { bytes.count }

  /// False if there is no room for it.
  mutating func append(_ payload: UnsafeRawBufferPointer, to destination: SocketAddress) -> Bool {
    guard entries.count < Self.maximumCount,
      entries.isEmpty || bytes.count + payload.count <= Self.maximumBytes
    else { return false }
    let start = bytes.count
    bytes.append(contentsOf: payload)
    entries.append(Entry(destination: destination, range: start..<bytes.count))
    return true
  }

  /// Calls `body` with all, in the order of their arrival; the payloads are valid as long as it runs.
  borrowing func withDatagrams(
    _ body: ([(payload: UnsafeRawBufferPointer, destination: SocketAddress)]) -> Void
  ) {
    bytes.withUnsafeBytes { bytes in
      body(
        entries.map { (UnsafeRawBufferPointer(rebasing: bytes[$0.range]), $0.destination) })
    }
  }
}
