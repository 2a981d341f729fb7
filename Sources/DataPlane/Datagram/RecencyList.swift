/// Lists of slots by how recently they were used, intrusive: each slot is in at most one list of each
/// `RecencyLinks`, and every operation takes constant time.
struct RecencyLinks: ~Copyable {
  static let none: Int32 = -1

  /// Both ends of one list.
  struct Ends {
    fileprivate(set) var newest = RecencyLinks.none
    fileprivate(set) var oldest = RecencyLinks.none

    var isEmpty: Bool { newest == RecencyLinks.none }
  }

  private struct Links {
    var newer = RecencyLinks.none
    var older = RecencyLinks.none
  }

  private var links: [Links] = []

  /// Adds a slot that is in no list.
  mutating func add(_ index: Int, to ends: inout Ends) {
    while links.count <= index { links.append(Links()) }
    let slot = Int32(truncatingIfNeeded: index)
    links[index] = Links(newer: Self.none, older: ends.newest)
    if ends.newest != Self.none { links[Int(ends.newest)].newer = slot } else { ends.oldest = slot }
    ends.newest = slot
  }

  /// Takes a slot out of its list.
  mutating func remove(_ index: Int, from ends: inout Ends) {
    let link = links[index]
    if link.newer != Self.none {
      links[Int(link.newer)].older = link.older
    } else {
      ends.newest = link.older
    }
    if link.older != Self.none {
      links[Int(link.older)].newer = link.newer
    } else {
      ends.oldest = link.newer
    }
    links[index] = Links()
  }

  /// Makes a slot the newest of its list.
  mutating func touch(_ index: Int, in ends: inout Ends) {
    guard Int(ends.newest) != index else { return }
    remove(index, from: &ends)
    add(index, to: &ends)
  }
}
