import Addressing
import LinuxIO
import Testing

@testable import DataPlane

struct LoopDetectorTests {
  private static let first = LoopDetector.suspiciousSessions

  private func detector() throws -> LoopDetector {
    LoopDetector(
      upstreams: [
        Upstream(at: .address(try #require(SocketAddress("192.0.2.1:1080"))), credentials: nil)
      ])
  }

  private let start = Instant.now()

  @Test func looksAtTheFirstNumberAndAtEachDoubling() throws {
    var detector = try detector()
    var looks: [Int] = []
    for sessions in 1...1000
    where detector.isSuspicious(sessions: sessions, now: start) { looks.append(sessions) }
    #expect(looks == [Self.first, 2 * Self.first, 4 * Self.first, 8 * Self.first])
  }

  /// Connections that come and go are no reason to look again and again.
  @Test func looksSeldomAtNumbersThatGoUpAndDown() throws {
    var detector = try detector()
    var looks = 0
    for millisecond in 0..<UInt32(LoopDetector.patience.milliseconds) {
      let now = start + Timeout(milliseconds: millisecond)
      for sessions in [1, Self.first + 1, 1]
      where detector.isSuspicious(sessions: sessions, now: now) { looks += 1 }
    }
    #expect(looks == 1)
  }

  @Test func looksAgainAtTheFirstNumberLater() throws {
    var detector = try detector()
    let isFirst = detector.isSuspicious(sessions: Self.first, now: start)
    let later = start + LoopDetector.patience
    let isBelow = detector.isSuspicious(sessions: 1, now: later)
    let isAgain = detector.isSuspicious(sessions: Self.first, now: later)
    #expect(isFirst && !isBelow && isAgain)
  }

  /// A loop that begins just after a look is found as it grows.
  @Test func growthIsNoticedAtAnyTime() throws {
    var detector = try detector()
    _ = detector.isSuspicious(sessions: Self.first, now: start)
    _ = detector.isSuspicious(sessions: 1, now: start)
    var looks = 0
    for sessions in 1...(4 * Self.first)
    where detector.isSuspicious(sessions: sessions, now: start) { looks += 1 }
    #expect(looks == 2)
  }
}
