/// Elements in chunks that never move, so that an element's address is stable and an index finds it in two
/// steps. Pages of a chunk come to be as elements are appended (one of sessions is so big that the allocator maps
/// it for itself): nothing is copied or left behind as the array grows, and little is set aside.
struct ChunkedArray<Element: ~Copyable>: ~Copyable {
  private static var chunkBits: Int { 10 }
  private static var chunkElements: Int { 1 << chunkBits }

  private var chunks: [UnsafeMutablePointer<Element>] = []
  private(set) var count = 0

  deinit {
    for (number, chunk) in chunks.enumerated() {
      let first = number << Self.chunkBits
      chunk.deinitialize(count: min(count - first, Self.chunkElements))
      chunk.deallocate()
    }
  }

  mutating func append(_ element: consuming Element) {
    if count == chunks.count << Self.chunkBits {
      chunks.append(.allocate(capacity: Self.chunkElements))
    }
    count += 1
    self[count - 1].initialize(to: element)
  }

  /// The element at `index`, which is less than `count`.
  subscript(_ index: Int) -> UnsafeMutablePointer<Element> {
    // SAFETY: the array access checks the chunk and the mask bounds the offset; of the last chunk, only what
    // was appended is asked for.
    chunks[index >> Self.chunkBits] + index & (Self.chunkElements - 1)
  }
}
