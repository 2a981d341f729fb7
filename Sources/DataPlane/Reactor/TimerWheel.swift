internal import LinuxIO

/// One deadline per session, in a hierarchical timing wheel (Varghese and Lauck, 1987, scheme 7).
///
/// Six levels of 64 slots; a slot of level `l` spans 64^l milliseconds, together two years, which no
/// `Timeout` exceeds. Scheduling and cancelling take
/// constant time; an entry moves down at most once per level. An occupancy word per level finds the
/// next slot without a scan, so that an idle loop sleeps until there is something to do.
struct TimerWheel: ~Copyable {
  private static let levels = 6
  private static let slotBits: UInt64 = 6
  private static let slots = 64
  private static let none: Int32 = -1
  private static let unscheduled: Int16 = -1
  /// The list, behind the slots, of what is due and waits to be taken.
  private static let due = levels * slots

  /// In 16 bytes, since every session has one: of the deadline's milliseconds 48 bits, 8,900 years.
  struct Node {
    private var deadlineLow: UInt32 = 0
    private var deadlineHigh: UInt16 = 0
    var slot: Int16 = TimerWheel.unscheduled
    var next: Int32 = TimerWheel.none
    var previous: Int32 = TimerWheel.none

    var deadline: UInt64 {
      get { UInt64(deadlineHigh) << 32 | UInt64(deadlineLow) }
      set {
        deadlineLow = UInt32(truncatingIfNeeded: newValue)
        deadlineHigh = UInt16(clamping: newValue >> 32)
      }
    }
  }

  private var nodes = ChunkedArray<Node>()
  private var heads = [Int32](repeating: TimerWheel.none, count: levels * slots + 1)
  private var occupied = [UInt64](repeating: 0, count: levels)
  /// Everything up to this moment has been taken from the slots.
  private var elapsed: UInt64

  init(now: Instant) { elapsed = now.milliseconds }

  /// Sets the deadline of `id`, in place of the one it had. A deadline that has passed is due at
  /// the next `next(now:)`.
  mutating func schedule(_ id: Int, at deadline: Instant) {
    while id >= nodes.count { nodes.append(Node()) }
    cancel(id)
    nodes[id].pointee.deadline = deadline.milliseconds
    insert(Int32(truncatingIfNeeded: id))
  }

  mutating func cancel(_ id: Int) {
    guard id < nodes.count, nodes[id].pointee.slot != Self.unscheduled else { return }
    unlink(Int32(truncatingIfNeeded: id))
  }

  /// The next session whose deadline has passed, which is unscheduled by that; nil if none.
  mutating func next(now: Instant) -> Int? {
    while heads[Self.due] == Self.none {
      guard let (level, slot, start) = nextSlot, start <= now.milliseconds else {
        elapsed = max(elapsed, now.milliseconds)
        return nil
      }
      elapsed = start
      // Entries of the slot are due or belong to a finer level now.
      while case let id = heads[level * Self.slots + slot], id != Self.none {
        unlink(id)
        insert(id)
      }
    }
    let id = heads[Self.due]
    unlink(id)
    return Int(id)
  }

  /// No deadline passes before this moment; nil if none is set.
  var nextExpiry: Instant? {
    if heads[Self.due] != Self.none { return Instant(milliseconds: elapsed) }
    return nextSlot.map { Instant(milliseconds: $0.start) }
  }

  /// The occupied slot that starts first: lower levels lie wholly before higher ones.
  private var nextSlot: (level: Int, slot: Int, start: UInt64)? {
    for level in 0..<Self.levels where occupied[level] != 0 {
      let shift = UInt64(level) * Self.slotBits
      let current = Int(elapsed >> shift & 63)
      let word = occupied[level]
      let rotated = current == 0 ? word : word >> UInt64(current) | word << UInt64(64 - current)
      let slot = (rotated.trailingZeroBitCount + current) % Self.slots
      let range: UInt64 = 1 << (shift + Self.slotBits)
      var start = elapsed & ~(range - 1) + UInt64(slot) << shift
      // Only in the last level can a slot lie behind the current one: it is of the next turn.
      if start <= elapsed { start += range }
      return (level, slot, start)
    }
    return nil
  }

  private mutating func insert(_ id: Int32) {
    let deadline = nodes[Int(id)].pointee.deadline
    guard deadline > elapsed else {
      link(id, slot: Self.due)
      return
    }
    let distance = (deadline ^ elapsed) | 63
    let level = min(
      (63 - distance.leadingZeroBitCount) / Int(Self.slotBits), Self.levels - 1)
    let slot = Int(deadline >> (UInt64(level) * Self.slotBits) & 63)
    occupied[level] |= 1 << UInt64(slot)
    link(id, slot: level * Self.slots + slot)
  }

  private mutating func link(_ id: Int32, slot: Int) {
    nodes[Int(id)].pointee.slot = Int16(slot)
    nodes[Int(id)].pointee.previous = Self.none
    nodes[Int(id)].pointee.next = heads[slot]
    if heads[slot] != Self.none { nodes[Int(heads[slot])].pointee.previous = id }
    heads[slot] = id
  }

  private mutating func unlink(_ id: Int32) {
    let node = nodes[Int(id)].pointee
    let slot = Int(node.slot)
    if node.next != Self.none { nodes[Int(node.next)].pointee.previous = node.previous }
    if node.previous != Self.none {
      nodes[Int(node.previous)].pointee.next = node.next
    } else {
      heads[slot] = node.next
      if node.next == Self.none, slot != Self.due {
        occupied[slot / Self.slots] &= ~(1 << UInt64(slot % Self.slots))
      }
    }
    nodes[Int(id)].pointee.slot = Self.unscheduled
    nodes[Int(id)].pointee.next = Self.none
    nodes[Int(id)].pointee.previous = Self.none
  }
}
