/// What a `SlotTable` holds. Its generation grows whenever a tenant leaves the slot.
protocol Slot: ~Copyable {
  init()
  var generation: UInt32 { get set }
}

typealias SessionTable = SlotTable<Session>
extension Session: Slot {}

/// The sessions, or whatever else has a token, of one worker. Vacant slots are reused last in, first out, while
/// they are warm.
struct SlotTable<Element: Slot & ~Copyable>: ~Copyable {
  private var slots = ChunkedArray<Element>()
  private var vacant: [Int32] = []

  /// Slots in use.
  var count: Int { slots.count - vacant.count }

  /// A vacant slot, which counts as used from now on.
  mutating func take() -> Int {
    if let index = vacant.popLast() { return Int(index) }
    slots.append(Element())
    return slots.count - 1
  }

  /// Makes a slot vacant, and tokens of its tenant void.
  mutating func giveBack(_ index: Int) {
    let slot = self[index]
    let generation = slot.pointee.generation &+ 1
    slot.pointee = Element()
    slot.pointee.generation = generation
    vacant.append(Int32(truncatingIfNeeded: index))
  }

  /// The slot at `index`, vacant or not.
  subscript(_ index: Int) -> UnsafeMutablePointer<Element> { slots[index] }

  /// The tenant that `token` was made for, nil if it is gone.
  func find(_ token: Token) -> UnsafeMutablePointer<Element>? {
    let slot = self[token.index]
    return slot.pointee.generation == token.generation ? slot : nil
  }

  /// Every slot that exists, for walks over all of them.
  var indices: Range<Int> { 0..<slots.count }
}
