/// The queries that wait for one resolver, and what one TCP connection to it after the other carries
/// (RFC 7766, section 6.2.1.1: pipelining; answers come in any order).
///
///     add ──▶ unsent ──encodeUnsent──▶ sent ──nextAnswer──▶ (answered)
///               ▲                      │
///               └────connectionLost────┘        (given up: connectionLost, expire, giveUp)
///
/// The queries are one list in the order of their arrival: the sent ones first, then the unsent. They
/// have one timeout, so that the first is also the first to expire.
///
/// A query can make a server close the connection, and all others go with it. A connection that is lost
/// is therefore held against its queries only if it brought no answer at all. Those that were on such a
/// fruitless connection are suspects, and go one at a time. A suspect that was on `maximumSends` of them
/// is given up, and when `maximumFruitlessConnections` have followed each other it is the resolver that
/// is at fault: then all are.
///
/// It has no socket and no clock; moments are milliseconds on a clock of the caller's that never goes
/// back. `Context` is whatever the caller wants back with the answer.
package struct QueryPipeline<Context> {
  package static var maximumQueries: Int { 1 << slotBits }
  /// Bytes of all queries together.
  package static var maximumBytes: Int { 512 * 1024 }
  package static var maximumSends: Int { 3 }
  package static var maximumFruitlessConnections: Int { 4 }

  /// The end of a query.
  package struct Completion {
    package let context: Context
    /// For the client, with its own id.
    package let message: [UInt8]
    package let isTruncated: Bool
  }

  private static var slotBits: Int { 11 }
  private static var none: Int { -1 }

  private struct Entry {
    let query: Query
    let context: Context
    let deadline: UInt64
    /// Fruitless connections that it was sent on.
    var failures = 0
    var isSent = false
  }

  private struct Slot {
    var entry: Entry?
    /// How many queries it has held; part of the id, so that a late answer finds nobody.
    var uses = 0
    var previous = QueryPipeline.none
    var next = QueryPipeline.none
  }

  private let timeout: UInt64
  private var slots: [Slot] = []
  // Vacant slots, the one that has been so for the longest time first.
  private var firstVacant = none
  private var lastVacant = none
  // Queries in the order of arrival.
  private var first = none
  private var last = none
  private var firstUnsent = none
  private var sentCount = 0
  private var bytes = 0

  // The connection.
  private var reassembler = MessageReassembler()
  private var hasAnswered = false
  private var fruitlessConnections = 0

  /// Queries that wait for an answer.
  package private(set) var count = 0

  package init(timeoutMilliseconds: UInt64) { timeout = timeoutMilliseconds }

  package var isEmpty: Bool { count == 0 }

  /// Whether `encodeUnsent` would write something.
  ///
  /// Suspects are the first of all, since they have been sent before: what is sent behind a query that is
  /// none is none either.
  package var canSend: Bool {
    firstUnsent != Self.none && (sentCount == 0 || slots[first].entry?.failures == 0)
  }

  /// When the next query expires; nil if there is none.
  package var nextExpiry: UInt64? { first == Self.none ? nil : slots[first].entry?.deadline }

  // MARK: Inputs

  /// Takes a query to be sent; false if there are too many.
  package mutating func add(_ query: Query, for context: Context, now: UInt64) -> Bool {
    guard count < Self.maximumQueries, bytes + query.message.count <= Self.maximumBytes else {
      return false
    }
    let slot = takeSlot()
    slots[slot].entry = Entry(query: query, context: context, deadline: now + timeout)
    slots[slot].uses += 1
    slots[slot].previous = last
    slots[slot].next = Self.none
    if last == Self.none { first = slot } else { slots[last].next = slot }
    last = slot
    if firstUnsent == Self.none { firstUnsent = slot }
    count += 1
    bytes += query.message.count
    return true
  }

  /// Appends what is to be sent next to `output`, framed, until that holds at least `limit` bytes.
  package mutating func encodeUnsent(into output: inout [UInt8], upTo limit: Int) {
    while canSend, output.count < limit, let query = slots[firstUnsent].entry?.query {
      output.append(framed: query.message, id: id(of: firstUnsent))
      slots[firstUnsent].entry?.isSent = true
      sentCount += 1
      firstUnsent = slots[firstUnsent].next
    }
  }

  /// The next answer in what the connection brought, from `consumed` on; nil when it is all taken.
  /// Messages that answer nothing that was asked on this connection are passed over.
  package mutating func nextAnswer(
    from input: Span<UInt8>, _ consumed: inout Int
  ) -> Completion? {
    while var message = reassembler.next(from: input, &consumed) {
      guard message.count >= Header.bytes else { continue }
      let id = message.span.integer(at: Header.id)
      let slot = Int(id) % Self.maximumQueries
      guard slot < slots.count, id == self.id(of: slot), let entry = slots[slot].entry,
        entry.isSent, entry.query.isAnswered(by: message)
      else { continue }
      remove(slot)
      hasAnswered = true
      fruitlessConnections = 0
      message.store(entry.query.id, at: Header.id)
      let (fitting, isTruncated) = entry.query.fitting(message)
      return Completion(context: entry.context, message: fitting, isTruncated: isTruncated)
    }
    return nil
  }

  /// The connection has ended, or could not be made. Its queries are unsent again, but for those that
  /// are given up: these are returned with SERVFAIL.
  package mutating func connectionLost() -> [Completion] {
    let isFruitless = !hasAnswered && !isEmpty
    reassembler = MessageReassembler()
    hasAnswered = false
    var failed: [Completion] = []
    var slot = first
    while slot != firstUnsent {
      let next = slots[slot].next
      slots[slot].entry?.isSent = false
      if isFruitless {
        slots[slot].entry?.failures += 1
        if slots[slot].entry?.failures == Self.maximumSends, let completion = fail(slot) {
          failed.append(completion)
        }
      }
      slot = next
    }
    firstUnsent = first
    sentCount = 0
    if isFruitless {
      fruitlessConnections += 1
      if fruitlessConnections >= Self.maximumFruitlessConnections { failed += giveUp() }
    }
    return failed
  }

  /// The next query whose time is over, with SERVFAIL; nil if there is none.
  package mutating func expire(now: UInt64) -> Completion? {
    guard let deadline = nextExpiry, deadline <= now else { return nil }
    return fail(first)
  }

  /// All queries, with SERVFAIL.
  package mutating func giveUp() -> [Completion] {
    var failed: [Completion] = []
    while first != Self.none, let completion = fail(first) { failed.append(completion) }
    return failed
  }

  // MARK: Slots

  private func id(of slot: Int) -> UInt16 {
    UInt16(truncatingIfNeeded: slots[slot].uses << Self.slotBits | slot)
  }

  /// A vacant slot. All are made before one is used again, so that an id does not come back soon.
  private mutating func takeSlot() -> Int {
    guard slots.count == Self.maximumQueries else {
      slots.append(Slot())
      return slots.count - 1
    }
    let slot = firstVacant
    firstVacant = slots[slot].next
    if firstVacant == Self.none { lastVacant = Self.none }
    return slot
  }

  private mutating func fail(_ slot: Int) -> Completion? {
    guard let entry = slots[slot].entry else { return nil }
    remove(slot)
    return Completion(
      context: entry.context, message: entry.query.serverFailure, isTruncated: false)
  }

  /// Takes the query out of the list, and leaves its slot to others.
  private mutating func remove(_ slot: Int) {
    guard let entry = slots[slot].entry else { return }
    let (previous, next) = (slots[slot].previous, slots[slot].next)
    if previous == Self.none { first = next } else { slots[previous].next = next }
    if next == Self.none { last = previous } else { slots[next].previous = previous }
    if firstUnsent == slot { firstUnsent = next }
    if entry.isSent { sentCount -= 1 }
    count -= 1
    bytes -= entry.query.message.count

    slots[slot].entry = nil
    slots[slot].next = Self.none
    if lastVacant == Self.none { firstVacant = slot } else { slots[lastVacant].next = slot }
    lastVacant = slot
  }
}
