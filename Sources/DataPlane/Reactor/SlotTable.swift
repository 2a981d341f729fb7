/// What a `SlotTable` holds. Its generation grows whenever a tenant leaves the slot.
protocol Slot: ~Copyable {
  init()
  var generation: UInt32 { get set }
}

typealias SessionTable = SlotTable<Session>
extension Session: Slot {}

/// The sessions, or whatever else has a token, of one worker, in chunks that never move, so that a
/// slot's address is stable and an index finds it in two steps. Vacant slots are reused last in, first
/// out, while they are warm.
struct SlotTable<Element: Slot & ~Copyable>: ~Copyable {
  private static var chunkBits: Int { 8 }
  private static var chunkSlots: Int { 1 << chunkBits }

  private var chunks: [UnsafeMutablePointer<Element>] = []
  private var vacant: [Int32] = []

  /// Slots in use.
  private(set) var count = 0

  deinit {
    for chunk in chunks {
      chunk.deinitialize(count: Self.chunkSlots)
      chunk.deallocate()
    }
  }

  /// A vacant slot, which counts as used from now on.
  mutating func take() -> Int {
    if vacant.isEmpty { grow() }
    count += 1
    return Int(vacant.removeLast())
  }

  /// Makes a slot vacant, and tokens of its tenant void.
  mutating func giveBack(_ index: Int) {
    let slot = self[index]
    let generation = slot.pointee.generation &+ 1
    slot.pointee = Element()
    slot.pointee.generation = generation
    count -= 1
    vacant.append(Int32(truncatingIfNeeded: index))
  }

  /// The slot at `index`, vacant or not.
  subscript(_ index: Int) -> UnsafeMutablePointer<Element> {
    // SAFETY: the array access checks the chunk, the mask bounds the offset, and slots are
    // initialised when their chunk is made.
    chunks[index >> Self.chunkBits] + index & (Self.chunkSlots - 1)
  }

  /// The tenant that `token` was made for, nil if it is gone.
  func find(_ token: Token) -> UnsafeMutablePointer<Element>? {
    let slot = self[token.index]
    return slot.pointee.generation == token.generation ? slot : nil
  }

  /// Every slot that exists, for walks over all of them.
  var indices: Range<Int> { 0..<chunks.count << Self.chunkBits }

  private mutating func grow() {
    let chunk = UnsafeMutablePointer<Element>.allocate(capacity: Self.chunkSlots)
    for index in 0..<Self.chunkSlots { (chunk + index).initialize(to: Element()) }
    let first = Int32(chunks.count << Self.chunkBits)
    chunks.append(chunk)
    vacant.append(contentsOf: (first..<first + Int32(Self.chunkSlots)).reversed())
  }
}
