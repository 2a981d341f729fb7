import Addressing
import Configuration
import DataPlane
import TestSupport
import Testing

@testable import Daemon

/// Slots under settings that come and go.
struct UpstreamRosterTests {
  private static func chain(_ number: Int) throws -> UpstreamChain {
    try UpstreamChain("socks5://192.0.2.\(number)")
  }

  private static func selection(_ numbers: [Int]) throws -> UpstreamSelection {
    UpstreamSelection(try numbers.map(chain), .failover)
  }

  private static func selection(_ upstreams: String...) throws -> UpstreamSelection {
    var options = Options()
    options.machine = true
    options.upstream = upstreams.first
    options.furtherUpstreams = Array(upstreams.dropFirst())
    return try Configuration(options).upstreams
  }

  struct Case: Sendable, CustomTestStringConvertible {
    let former: [Int]
    let present: [Int]
    let order: [Int]
    let fresh: [Int]
    let retired: [Int]
    let testDescription: String
  }

  @Test(arguments: [
    Case(
      former: [1], present: [2], order: [1], fresh: [1], retired: [0],
      testDescription: "one for another"),
    Case(
      former: [1, 2], present: [2, 1], order: [1, 0], fresh: [], retired: [],
      testDescription: "order"),
    Case(
      former: [1, 2, 3], present: [3], order: [2], fresh: [], retired: [0, 1],
      testDescription: "fewer"),
    Case(
      former: [1], present: [4, 1, 5], order: [1, 0, 2], fresh: [1, 2], retired: [],
      testDescription: "more"),
  ])
  func slotsAreKept(_ one: Case) throws {
    var roster = UpstreamRoster(try Self.selection(one.former))
    let fresh = roster.adopt(try Self.selection(one.present), addresses: [:])
    #expect(fresh == MemberSet(one.fresh))
    #expect(roster.order == one.order)
    #expect(roster.retired == MemberSet(one.retired))
  }

  /// One that comes back before its slot is another's has it again; a free slot is the next one's.
  @Test func retiredOneIsRevived() throws {
    var roster = UpstreamRoster(try Self.selection([1]))
    #expect(roster.adopt(try Self.selection([2]), addresses: [:]) == MemberSet([1]))
    #expect(roster.adopt(try Self.selection([1]), addresses: [:]) == MemberSet())
    #expect(roster.order == [0] && roster.retired == MemberSet([1]))
    // What is listed is not freed.
    roster.free(MemberSet([0, 1]))
    #expect(roster.retired.isEmpty && roster.chain(in: 1) == nil && roster.chain(in: 0) != nil)
    #expect(roster.adopt(try Self.selection([3]), addresses: [:]) == MemberSet([1]))
  }

  @Test func exemptionsAreOfAllThatAreInUse() throws {
    let (first, second) = (try #require(IPAddress("192.0.2.1")), IPAddress("192.0.2.2"))
    var roster = UpstreamRoster(try Self.selection([1]), addresses: [[first]])
    _ = roster.adopt(
      try Self.selection([2]), addresses: [try Self.chain(2): [try #require(second)]])
    #expect(roster.exemptions == [first, try #require(second)])
    roster.free(roster.retired)
    #expect(roster.exemptions == [try #require(second)])
  }

  @Test func tooManyChangeNothing() throws {
    var roster = UpstreamRoster(try Self.selection(Array(1...16)))
    #expect(roster.adopt(try Self.selection([17]), addresses: [:]) == nil)
    #expect(roster.order == Array(0..<16) && roster.retired.isEmpty)
    #expect(roster.adopt(try Self.selection(Array(2...16)), addresses: [:]) == MemberSet())
    #expect(roster.adopt(try Self.selection([17]), addresses: [:]) == nil)
    roster.free(MemberSet([0]))
    #expect(roster.adopt(try Self.selection([17]), addresses: [:]) == MemberSet([0]))
  }

  /// Sets go by the names that rules have for them.
  @Test func movesGoByNames() throws {
    let former = UpstreamRoster(
      try Self.selection("socks5://192.0.2.1", "tor=socks5://192.0.2.2", "old=socks5://192.0.2.3"))
    var present = former
    _ = present.adopt(
      try Self.selection("tor=socks5://192.0.2.4", "socks5://192.0.2.2", "socks5://192.0.2.1"),
      addresses: [:])
    let change = { (members: [Int]) in
      former.moves(to: present).first { $0.former == MemberSet(members) }?.present
    }
    #expect(change([0]) == MemberSet([0, 1]))
    #expect(change([1]) == MemberSet([3]))
    #expect(change([2]) == nil)
  }

  /// Random settings: whatever is listed has a slot of its own, and no slot changes hands while it is used.
  @Test func agreesWithTheModel() throws {
    var random = SplitMix(seed: 9)
    for _ in 0..<50 {
      var roster = UpstreamRoster(try Self.selection([1]))
      var model: [Int: Int] = [0: 1]
      for _ in 0..<40 {
        if random.next(below: 3) == 0 {
          let freed = MemberSet((0..<16).filter { _ in random.next(below: 2) == 0 })
          for slot in model.keys where freed.contains(slot) && roster.retired.contains(slot) {
            model[slot] = nil
          }
          roster.free(freed)
        }
        let numbers = Array(
          (1...20).shuffled(using: &random).prefix(Int(random.next(below: 8)) + 1))
        let missing = numbers.filter { !model.values.contains($0) }
        let fresh = roster.adopt(try Self.selection(numbers), addresses: [:])
        #expect((fresh == nil) == (model.count + missing.count > MemberSet.maximumMembers))
        guard let fresh else { continue }
        #expect(fresh.count == missing.count)
        for (number, slot) in zip(numbers, roster.order) {
          #expect(model[slot] == nil ? fresh.contains(slot) : model[slot] == number)
          model[slot] = number
        }
        for (slot, number) in model {
          #expect(roster.chain(in: slot) == (try Self.chain(number)))
        }
        #expect(Set(roster.order).count == numbers.count)
        #expect(roster.retired.count == model.count - numbers.count)
      }
    }
  }
}
