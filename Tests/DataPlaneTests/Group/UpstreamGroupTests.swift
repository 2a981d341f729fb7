import Addressing
import LinuxIO
import SOCKS
import Testing

@testable import DataPlane

struct UpstreamGroupTests {
  private func upstream(_ dialect: Dialect = .socks5(nil)) throws -> Upstream {
    Upstream(at: .address(try #require(SocketAddress("192.0.2.1:1080"))), dialect)
  }

  private func group(_ dialects: Dialect...) throws -> UpstreamGroup {
    try UpstreamGroup(try dialects.map(upstream), .failover)
  }

  @Test func whoIsTakenOutIsToldOnce() throws {
    let group = try group(.socks5(nil), .socks5(nil))
    for _ in 0..<3 { group.takeOut(1, after: .connectRefused) }
    #expect(!group.alive.contains(1) && group.alive.contains(0))
    for _ in 0..<3 { group.bringBack(1) }
    #expect(group.alive == group.listed)
    let notices = try #require(group.notices).takeAll()
    #expect(notices.count == 2)
    guard case .takenOut(1, .connectRefused, isTold: false) = notices[0],
      case .broughtBack(1) = notices[1]
    else {
      Issue.record("\(notices)")
      return
    }
  }

  @Test func doubtIsToldOnceUntilItIsHeard() throws {
    let group = try group(.socks5(nil), .socks5(nil))
    for _ in 0..<3 { group.doubt(0) }
    group.clearDoubt(0)
    group.doubt(0)
    #expect(try #require(group.notices).takeAll().count == 2)
    #expect(group.alive == group.listed)
  }

  /// There is nothing to choose from.
  @Test func onlyUpstreamStays() throws {
    let group = UpstreamGroup(try upstream())
    group.takeOut(0, after: .connectRefused)
    group.doubt(0)
    #expect(!group.isPlural && group.alive.contains(0))
  }

  /// What is not listed only serves the flows that it has: nobody hears of it, and nobody is sent there.
  @Test func retiredOnesAreLeftAlone() throws {
    let upstreams = try [.socks5(nil), .socks5(nil), .http(nil)].map(upstream)
    let group = try UpstreamGroup(
      slots: upstreams, order: [2, 0], .failover, sets: [MemberSet([0, 2])])
    #expect(group.listed == MemberSet([0, 2]) && group.standard == group.listed)
    #expect(group.ranking.first(of: group.listed) == 2 && group.first == 2)
    group.takeOut(1, after: .connectRefused)
    group.doubt(1)
    #expect(try #require(group.notices).takeAll().isEmpty)
    #expect(!group.isDown(1) && group.alive == group.listed)
    #expect(group.able(MemberSet([0, 1]), toReachIPv4: true) == MemberSet([0]))
    #expect(group.able(MemberSet([1]), toReachIPv4: false).isEmpty)
    #expect(group.relaying(MemberSet([0, 1])) == MemberSet([0]))
    #expect(group.hasOthers(than: 1))
    upstreams[0].carriesIPv6 = false
    upstreams[2].carriesIPv6 = false
    #expect(!group.carriesIPv6)
    let lone = try UpstreamGroup(
      slots: upstreams, order: [1], .failover, sets: [MemberSet([1])])
    #expect(
      !lone.isPlural && lone.first == 1 && lone.hasOthers(than: 0) && !lone.hasOthers(than: 1))
  }

  @Test func onlyTheAbleAreAsked() throws {
    let group = try group(.socks4(nil, takesNames: false), .socks5(nil), .http(nil))
    #expect(group.able(group.listed, toReachIPv4: true) == group.listed)
    #expect(group.able(group.listed, toReachIPv4: false) == MemberSet([1, 2]))
    #expect(group.relaying(group.listed) == MemberSet([1]))
    #expect(group.carriesIPv6 && group.datagramAbility == .unknown)
    group.members[1].datagramAbility = .refuses
    #expect(group.datagramAbility == .refuses)
  }

  /// What a set lacks, others do not make up for.
  @Test func setsAreAlone() throws {
    let dialects: [Dialect] = [.http(nil), .socks5(nil), .socks4(nil, takesNames: false)]
    let group = try UpstreamGroup(
      try dialects.map(upstream), .failover, sets: [MemberSet([0]), MemberSet([1, 2])])
    #expect(group.standard == MemberSet([0]))
    #expect(group.datagramAbility == .refuses)
    #expect(group.relaying(group.standard) == group.standard)
    #expect(group.able(MemberSet([1, 2]), toReachIPv4: false) == MemberSet([1]))
    #expect(group.able(MemberSet([2]), toReachIPv4: false) == MemberSet([2]))
    #expect(
      (0..<3).map(group.companions) == [0, 1, 1].map { [MemberSet([0]), MemberSet([1, 2])][$0] })
  }

  /// A reply that speaks of the target is passed on.
  @Test(arguments: [
    ReplyCode.networkUnreachable, .hostUnreachable, .connectionRefused, .ttlExpired,
  ])
  func repliesOfTheTargetAreNobodysFault(code: ReplyCode) {
    #expect(Failure(.refused(code)).blame == .nobody)
  }

  @Test(arguments: [
    (Failure.connectRefused, Failure.Blame.member), (.connectTimeout, .member),
    (.closedInMethodSelection, .member), (.closedInReply, .doubt), (.handshakeTimeout, .doubt),
    (.replyGeneralFailure, .flow), (.replyNotAllowed, .flow), (.resetByDownstream, .nobody),
    (.noLocalPort, .flow), (.resourcesExhausted, .nobody),
  ])
  func blame(failure: Failure, blame: Failure.Blame) { #expect(failure.blame == blame) }
}
