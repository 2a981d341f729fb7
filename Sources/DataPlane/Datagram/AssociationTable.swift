internal import Addressing

/// The associations of one worker, found by their client's endpoint and the upstreams they may go through, and by how recently they were
/// used: of all, and of each client's address.
struct AssociationTable: ~Copyable {
  private struct Share {
    var count = 0
    var recency = RecencyLinks.Ends()
  }

  private struct Key: Hashable {
    let client: SocketAddress
    let members: MemberSet
  }

  var slots = SlotTable<Association>()
  private var indices: [Key: Int32] = [:]
  private var recency = RecencyLinks.Ends()
  private var links = RecencyLinks()
  private var clientLinks = RecencyLinks()
  private var shares: [Share] = []
  private var vacantShares: [Int32] = []
  private var sharesByAddress: [IPAddress: Int32] = [:]

  var count: Int { slots.count }

  func find(_ client: SocketAddress, _ members: MemberSet) -> Int? {
    indices[Key(client: client, members: members)].map { Int($0) }
  }

  /// The least recently used of a client's address; nil if it has none here.
  func oldest(of client: IPAddress) -> Int? {
    sharesByAddress[client].map { Int(shares[Int($0)].recency.oldest) }
  }

  /// The least recently used of all; nil if there is none.
  var oldest: Int? { recency.isEmpty ? nil : Int(recency.oldest) }

  /// Makes an association for `client`, which has none with these upstreams.
  mutating func add(_ client: SocketAddress, _ members: MemberSet) -> Int {
    let index = slots.take()
    let share = takeShare(of: client.address)
    slots[index].pointee.client = client
    slots[index].pointee.members = members
    slots[index].pointee.share = share
    indices[Key(client: client, members: members)] = Int32(truncatingIfNeeded: index)
    links.add(index, to: &recency)
    clientLinks.add(index, to: &shares[Int(share)].recency)
    shares[Int(share)].count += 1
    return index
  }

  /// Has those that exist be found by other upstreams than so far. Of two of one client that would be found
  /// by the same, one is found no more.
  mutating func move(_ destination: (MemberSet) -> MemberSet) {
    indices.removeAll(keepingCapacity: true)
    for index in slots.indices where slots[index].pointee.share >= 0 {
      slots[index].pointee.members = destination(slots[index].pointee.members)
      let key = Key(client: slots[index].pointee.client, members: slots[index].pointee.members)
      if indices[key] == nil { indices[key] = Int32(truncatingIfNeeded: index) }
    }
  }

  mutating func touch(_ index: Int) {
    links.touch(index, in: &recency)
    clientLinks.touch(index, in: &shares[Int(slots[index].pointee.share)].recency)
  }

  /// Ends an association and closes what it holds.
  mutating func remove(_ index: Int) {
    let (client, share) = (slots[index].pointee.client, slots[index].pointee.share)
    let key = Key(client: client, members: slots[index].pointee.members)
    if indices[key] == Int32(truncatingIfNeeded: index) { indices[key] = nil }
    links.remove(index, from: &recency)
    clientLinks.remove(index, from: &shares[Int(share)].recency)
    shares[Int(share)].count -= 1
    if shares[Int(share)].count == 0 {
      sharesByAddress[client.address] = nil
      vacantShares.append(share)
    }
    slots.giveBack(index)
  }

  private mutating func takeShare(of client: IPAddress) -> Int32 {
    if let share = sharesByAddress[client] { return share }
    let share = vacantShares.popLast() ?? Int32(truncatingIfNeeded: shares.count)
    if Int(share) == shares.count { shares.append(Share()) }
    sharesByAddress[client] = share
    return share
  }
}
