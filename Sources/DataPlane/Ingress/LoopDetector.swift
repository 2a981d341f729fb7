internal import Addressing
internal import LinuxIO

/// Finds out that captured traffic comes back to us, connections or datagrams. The rules exempt our own sockets and the
/// upstream; this is for the case that other rules, or a program on this host, defeat them.
struct LoopDetector {
  /// From so many sessions, or associations, on a loop is looked for: at this number, and at each doubling.
  static let suspiciousSessions = 64
  /// Destinations that are known to loop at most.
  static let maximumKnown = 64
  /// How long a destination that looped is refused.
  static let quarantine = Timeout.seconds(30)
  /// How long after a look fewer sessions do not bring the next one nearer: to find the program behind a
  /// flow takes tens of milliseconds, in which a worker does nothing else.
  static let patience = Timeout.seconds(10)

  /// Those that new flows go through.
  var upstreams: [Upstream]
  private var looping: [SocketAddress: Instant] = [:]
  private var culprit: LoopCause?
  /// Sessions at which the next look is due.
  private var nextLook = suspiciousSessions
  private var lastLook = Instant(milliseconds: 0)

  init(upstreams: [Upstream]) { self.upstreams = upstreams }

  /// What is known of a new flow by its destination alone.
  func check(_ destination: OriginalDestination, now: Instant) -> LoopCause? {
    for upstream in upstreams {
      switch upstream.place {
      case .address(destination.address): return .connectionToUpstream
      case .address, .socket, .nowhere: break
      }
    }
    guard !looping.isEmpty, let until = looping[destination.address], now < until else {
      return nil
    }
    return culprit
  }

  /// Whether there are so many sessions that the newest should be looked at. Every flow that goes round
  /// adds a session each time, so their number doubles soon and the newest is most likely one of them;
  /// a number that only goes up and down is looked at once in a while.
  mutating func isSuspicious(sessions: Int, now: Instant) -> Bool {
    if sessions < nextLook / 4, lastLook + Self.patience <= now {
      nextLook = max(nextLook / 2, Self.suspiciousSessions)
    }
    guard sessions >= nextLook else { return false }
    nextLook *= 2
    lastLook = now
    return true
  }

  /// Judges the program behind a flow: one that is itself the upstream, or we ourselves, close the
  /// circle. Any other is innocent, however many flows it begins.
  /// - Parameter owner: of the flow's socket; nil if it is not of this host.
  mutating func judge(
    _ owner: SocketOwner?, of destination: OriginalDestination, now: Instant
  ) -> LoopCause? {
    guard let owner else { return nil }
    let cause: LoopCause
    if owner.isOurselves {
      cause = .ourselves
    } else if upstreams.contains(where: { $0.place.owner?.executable == owner.executable }) {
      cause = .upstreamProgram(name: owner.name, processID: owner.processID)
    } else {
      return nil
    }
    looping = looping.filter { now < $0.value }
    if looping.count < Self.maximumKnown {
      looping[destination.address] = now + Self.quarantine
    }
    culprit = cause
    return cause
  }
}
