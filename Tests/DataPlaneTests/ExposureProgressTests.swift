import Addressing
import LinuxIO
import Testing

@testable import DataPlane

/// When an upstream is asked to listen again, and for which port.
struct ExposureProgressTests {
  private static let start = Instant(milliseconds: 1_000_000)

  private static func place(_ port: UInt16) -> Endpoint {
    .address(SocketAddress(.v4(IPv4Address(bits: 0xC633_6401)), port))
  }

  private static func progress(port: UInt16) -> Progress {
    Progress(
      ExposureProgress(
        Exposure(of: [SocketAddress(.v4(.loopback), 80)], for: nil, port: port), now: start))
  }

  @Test func listeningIsToldWhereItChanges() {
    let progress = Self.progress(port: 8080)
    #expect(progress.nextAttempt == Self.start)
    var told: [Bool] = []
    for port: UInt16 in [8080, 8080, 9000, 8080] {
      told.append(progress.noteListening(at: Self.place(port), now: Self.start))
      progress.noteArrival(now: Self.start)
      #expect(progress.nextAttempt == Self.start)
      #expect(progress.port == 8080)
    }
    #expect(told == [true, false, true, true])
  }

  /// A server that does not give the wished port is asked for the one that it gave.
  @Test(arguments: [0, 80] as [UInt16]) func firstPortIsKept(wished: UInt16) {
    let progress = Self.progress(port: wished)
    #expect(progress.port == wished)
    _ = progress.noteListening(at: Self.place(40_001), now: Self.start)
    #expect(progress.port == 40_001)
    progress.noteArrival(now: Self.start)
    _ = progress.noteListening(at: Self.place(40_002), now: Self.start)
    #expect(progress.port == 40_001)
  }

  @Test func pausesGrowToTheirLimit() {
    let progress = Self.progress(port: 0)
    for limit: UInt64 in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
      #expect(progress.noteFailure(isRefusal: false, now: Self.start))
      let pause = progress.nextAttempt.milliseconds(since: Self.start)
      #expect((limit * 500...limit * 1000).contains(pause))
    }
    progress.noteArrival(now: Self.start)
    #expect(progress.noteFailure(isRefusal: false, now: Self.start))
    #expect(progress.nextAttempt <= Self.start + .seconds(1))
  }

  /// It is told again that it listens, even at the same place.
  @Test func failureMakesListeningNews() {
    let progress = Self.progress(port: 8080)
    #expect(progress.noteListening(at: Self.place(8080), now: Self.start))
    progress.noteArrival(now: Self.start)
    #expect(progress.noteFailure(isRefusal: false, now: Self.start))
    #expect(progress.noteListening(at: Self.place(8080), now: Self.start))
  }

  /// The end of a listener says little, but if it comes again and again.
  @Test func lostListenerIsToldTheSecondTime() {
    let progress = Self.progress(port: 8080)
    #expect(progress.noteListening(at: Self.place(8080), now: Self.start))
    #expect(!progress.noteFailure(isRefusal: false, now: Self.start))
    #expect(progress.nextAttempt < Self.start + .seconds(1))
    #expect(!progress.noteListening(at: Self.place(8080), now: Self.start))
    #expect(progress.noteFailure(isRefusal: false, now: Self.start))
  }

  /// Servers have a limit for how long they listen.
  @Test func longWaitIsNoFailure() {
    let progress = Self.progress(port: 8080)
    _ = progress.noteListening(at: Self.place(8080), now: Self.start)
    let later = Self.start + .seconds(30)
    #expect(!progress.noteFailure(isRefusal: true, now: later))
    #expect(progress.nextAttempt == later)
    #expect(!progress.noteListening(at: Self.place(8080), now: later))
    #expect(!progress.noteFailure(isRefusal: false, now: later + .seconds(1)))
    #expect(progress.noteFailure(isRefusal: false, now: later + .seconds(2)))
  }

  @Test func refusedPortIsGivenUp() {
    let fresh = Self.progress(port: 80)
    #expect(!fresh.noteFailure(isRefusal: true, now: Self.start))
    #expect((fresh.port, fresh.nextAttempt) == (0, Self.start))
    #expect(fresh.noteFailure(isRefusal: true, now: Self.start))

    let known = Self.progress(port: 8080)
    _ = known.noteListening(at: Self.place(8080), now: Self.start)
    known.noteArrival(now: Self.start)
    #expect(known.noteFailure(isRefusal: true, now: Self.start))
    #expect(known.noteFailure(isRefusal: true, now: Self.start))
    #expect(known.port == 8080)
    #expect(!known.noteFailure(isRefusal: true, now: Self.start))
    #expect(known.port == 0)
    #expect(known.noteListening(at: Self.place(40_001), now: Self.start))
    #expect(known.port == 40_001)
  }

  @Test func strangersCostAMoment() {
    let progress = Self.progress(port: 8080)
    progress.isWaiting = true
    progress.noteStranger(now: Self.start)
    #expect(!progress.isWaiting)
    #expect(progress.nextAttempt > Self.start)
    #expect(progress.nextAttempt < Self.start + .seconds(1))
  }
}

/// Holds the value, which `#expect` cannot change by itself.
private final class Progress {
  private var value: ExposureProgress

  init(_ value: ExposureProgress) { self.value = value }

  var nextAttempt: Instant { value.nextAttempt }
  var port: UInt16 { value.port }
  var isWaiting: Bool {
    get { value.isWaiting }
    set { value.isWaiting = newValue }
  }

  func noteListening(at place: Endpoint, now: Instant) -> Bool {
    value.noteListening(at: place, now: now)
  }

  func noteArrival(now: Instant) { value.noteArrival(now: now) }

  func noteStranger(now: Instant) { value.noteStranger(now: now) }

  func noteFailure(isRefusal: Bool, now: Instant) -> Bool {
    value.noteFailure(isRefusal: isRefusal, now: now)
  }
}
