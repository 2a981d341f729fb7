import DNS

/// A list that is searched whole each time: slow and obviously right. It tells contexts only.
struct SlowPipeline {
  private struct Item {
    let context: Int
    let deadline: UInt64
    var failures = 0
    var isSent = false
  }

  private let maximumQueries: Int
  private var items: [Item] = []
  private var hasAnswered = false
  private var fruitlessConnections = 0

  init(maximumQueries: Int) { self.maximumQueries = maximumQueries }

  var count: Int { items.count }
  var nextExpiry: UInt64? { items.map(\.deadline).min() }

  func contains(_ context: Int) -> Bool { items.contains { $0.context == context } }

  mutating func add(_ context: Int, deadline: UInt64) -> Bool {
    guard items.count < maximumQueries else { return false }
    items.append(Item(context: context, deadline: deadline))
    return true
  }

  /// What is sent when there is room for `most`.
  mutating func send(_ most: Int) -> [Int] {
    var sent: [Int] = []
    for index in items.indices where !items[index].isSent && sent.count < most {
      let others = items.filter(\.isSent)
      guard others.isEmpty || others.allSatisfy({ $0.failures == 0 }) else { break }
      items[index].isSent = true
      sent.append(items[index].context)
    }
    return sent
  }

  mutating func answer(_ context: Int) -> Bool {
    guard let index = items.firstIndex(where: { $0.context == context && $0.isSent }) else {
      return false
    }
    items.remove(at: index)
    hasAnswered = true
    fruitlessConnections = 0
    return true
  }

  mutating func connectionLost() -> Set<Int> {
    if !hasAnswered, !items.isEmpty {
      fruitlessConnections += 1
      for index in items.indices where items[index].isSent { items[index].failures += 1 }
    }
    hasAnswered = false
    for index in items.indices { items[index].isSent = false }
    let isResolverAtFault = fruitlessConnections >= 4
    return remove { $0.failures == 3 || isResolverAtFault }
  }

  mutating func expire(now: UInt64) -> Set<Int> { remove { $0.deadline <= now } }

  private mutating func remove(_ isGone: (Item) -> Bool) -> Set<Int> {
    let gone = items.filter(isGone).map(\.context)
    items.removeAll(where: isGone)
    return Set(gone)
  }
}
