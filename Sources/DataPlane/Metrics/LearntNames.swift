internal import Addressing

/// The names that addresses had when they were last looked up, of a bounded number of addresses: the one
/// that was learnt the longest time ago gives way.
struct LearntNames: ~Copyable {
  private let maximum: Int
  private var slots: [(address: IPAddress, name: String)] = []
  private var indices: [IPAddress: Int] = [:]
  private var links = RecencyLinks()
  private var ends = RecencyLinks.Ends()

  init(maximum: Int) { self.maximum = maximum }

  /// Addresses whose names are known.
  var count: Int { slots.count }

  subscript(_ address: IPAddress) -> String? { indices[address].map { slots[$0].name } }

  mutating func learn(_ name: String, of address: IPAddress) {
    if let index = indices[address] {
      slots[index].name = name
      links.touch(index, in: &ends)
    } else if slots.count < maximum {
      indices[address] = slots.count
      links.add(slots.count, to: &ends)
      slots.append((address, name))
    } else {
      let index = Int(ends.oldest)
      indices[slots[index].address] = nil
      indices[address] = index
      slots[index] = (address, name)
      links.touch(index, in: &ends)
    }
  }
}
