internal import Addressing
internal import LinuxIO

/// Finds out that captured traffic comes back to us. The rules exempt our own sockets and the
/// upstream; this is for the case that other rules, or a program on this host, defeat them.
struct LoopDetector {
  /// From so many unfinished handshakes on, most of them to one destination, a loop is suspected;
  /// asked again at each doubling.
  static let suspiciousHandshakes = 64
  /// Destinations that are known to loop at most.
  static let maximumKnown = 64
  /// How long a destination that looped is refused.
  static let quarantine = Timeout.seconds(30)

  private let upstream: SocketAddress
  private var looping: [SocketAddress: Instant] = [:]
  private var culprit: LoopCause?

  init(upstream: SocketAddress) { self.upstream = upstream }

  /// What is known of a new flow by its destination alone.
  func check(_ destination: OriginalDestination, now: Instant) -> LoopCause? {
    if destination.address == upstream { return .connectionToUpstream }
    guard !looping.isEmpty, let until = looping[destination.address], now < until else {
      return nil
    }
    return culprit
  }

  static func isSuspicious(handshakes: Int) -> Bool {
    handshakes >= suspiciousHandshakes && handshakes & (handshakes - 1) == 0
  }

  /// Asks the system who made the connection between `peer` and `destination`, when many handshakes
  /// to it are unfinished: a program that is itself the upstream, or we ourselves, close the circle.
  /// A burst of an innocent program does not.
  mutating func investigate(
    _ destination: OriginalDestination, peer: SocketAddress, now: Instant
  ) -> LoopCause? {
    guard let owner = SocketOwner.connected(from: peer, to: destination.address) else {
      return nil
    }
    let cause: LoopCause
    if owner.isOurselves {
      cause = .ourselves
    } else if owner.executable == SocketOwner.listening(on: upstream)?.executable {
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
