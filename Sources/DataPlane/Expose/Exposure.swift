package import Addressing
internal import LinuxIO

/// A local service that is published through the upstream: the upstream listens for us (BIND), and whoever
/// comes there is connected to the service.
package struct Exposure: Sendable {
  /// Where the service listens: the first of these that takes the connection. There is at least one.
  package let service: [SocketAddress]
  /// From where alone somebody may come; nil: from anywhere.
  package let peer: IPAddress?
  /// Where the upstream is asked to listen; 0: anywhere. It may take another port.
  package let port: UInt16

  package init(of service: [SocketAddress], for peer: IPAddress?, port: UInt16) {
    self.service = service
    self.peer = peer
    self.port = port
  }
}

/// What becomes of an exposure.
package enum ExposureEvent: Sendable {
  /// The upstream listens there; told if that is elsewhere than before, or after a failure.
  case listening(Endpoint)
  /// The upstream does not listen, and is asked again later. A refusal is `.replied`.
  case failed(UpstreamProbe.Outcome)
  /// Somebody has come from there, as the upstream says.
  case arrived(from: Endpoint?)
  /// The same of somebody who may not come; the connection is cut, by the upstream if there is no address.
  case turnedAway(Endpoint?)
}

/// How far a worker is with its exposure.
struct ExposureProgress {
  /// Before a second attempt, and at most, in milliseconds.
  private static let firstPause: UInt32 = 1_000
  private static let maximumPause: UInt32 = 60_000
  /// Before the next attempt where somebody may have come in vain.
  private static let shortPause = Timeout(milliseconds: 100)
  /// Refusals in a row after which a port that was had before is given up.
  private static let refusalsBeforeAnotherPort = 3
  /// A listener that has ended after this time has just not been needed: servers have a limit for it.
  private static let ordinaryWait = Timeout.seconds(5)

  /// Whether a session connects to the upstream or waits for a peer: one at a time, since a port has
  /// one listener.
  var isWaiting = false
  /// When the upstream is asked, or asked again.
  var nextAttempt: Instant
  /// The port that it is asked for: the wished one, later the first that it gave. Some give another while
  /// a connection to that one is open.
  private(set) var port: UInt16
  /// Where it listens, as was told; nil if that is to be told.
  private var told: Endpoint?
  private var hasListened = false
  private var listeningSince: Instant?
  /// In a row.
  private var failureCount = 0

  init(_ exposure: Exposure, now: Instant) {
    nextAttempt = now
    port = exposure.port
  }

  /// The upstream listens; whether that is news.
  mutating func noteListening(at place: Endpoint, now: Instant) -> Bool {
    if !hasListened || port == 0 { port = place.port }
    hasListened = true
    listeningSince = now
    guard told != place else { return false }
    told = place
    return true
  }

  /// Somebody has come: the next one is waited for at once.
  mutating func noteArrival(now: Instant) {
    isWaiting = false
    listeningSince = nil
    failureCount = 0
    nextAttempt = now
  }

  /// The upstream has turned somebody away, and listens no more.
  mutating func noteStranger(now: Instant) {
    noteArrival(now: now)
    nextAttempt = now + Self.shortPause
  }

  /// The upstream does not listen, or no more. Whether that is to be told.
  /// - Parameter isRefusal: it does not want to.
  mutating func noteFailure(isRefusal: Bool, now: Instant) -> Bool {
    let since = listeningSince
    listeningSince = nil
    if let since, since + Self.ordinaryWait <= now {
      noteArrival(now: now)
      return false
    }
    failureCount += 1
    if since != nil, failureCount == 1 {
      // What is wrong shows when it is asked again.
      nextAttempt = now + Self.shortPause
      return false
    }
    let enough = hasListened ? Self.refusalsBeforeAnotherPort : 1
    if isRefusal, port != 0, failureCount >= enough {
      port = 0
      nextAttempt = now
      return false
    }
    told = nil
    let pause = min(Self.firstPause << UInt32(min(failureCount - 1, 6)), Self.maximumPause)
    nextAttempt = now + Timeout(milliseconds: .random(in: pause / 2...pause))
    return true
  }
}
