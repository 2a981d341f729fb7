internal import LinuxIO
internal import SOCKS

/// The application's first bytes go out behind the request, without waiting for the reply. They stay in
/// its socket until that is there: who is refused by one upstream can still say them to another.
extension Worker {
  /// Of one flow, at most.
  private static let maximumEarlyBytes = 8 * 1024

  /// Sends the request, if it is unsent, and what the application has said since it was last asked; both
  /// in one segment. Only where the request is the end of what is to be sent, and of the only hop.
  func sendEarly(_ index: Int) {
    let session = sessions[index]
    let negotiation = negotiation(of: index)
    guard negotiation.isPipelined || negotiation.pooledSince != nil,
      case .client = negotiation.machine, negotiation.part.hop == 0, negotiation.isAtLastHop,
      session.pointee.upstreamReadiness.contains(.writable),
      let downstream = session.pointee.downstream?.rawValue,
      let upstream = session.pointee.upstream?.rawValue
    else { return }
    // What has come before the first event of the application is there, too.
    guard negotiation.hasUnsent || session.pointee.downstreamReadiness.contains(.readable) else {
      return
    }
    let request = negotiation.unsent
    let scratch = resources.scratch
    scratch.copyMemory(from: request)
    let room = UnsafeMutableRawBufferPointer(
      rebasing: scratch[request.count..<request.count + Self.maximumEarlyBytes])
    guard case .bytes(let said) = peek(downstream, into: room), said > negotiation.earlyCount else {
      return
    }
    // With a request none has gone.
    let bytes = UnsafeRawBufferPointer(
      rebasing: scratch[negotiation.earlyCount..<request.count + said])
    switch send(upstream, bytes) {
    case .bytes(let count):
      let requestCount = min(count, request.count)
      negotiation.noteSent(requestCount)
      negotiation.earlyCount += count - requestCount
    case .wouldBlock: session.pointee.upstreamReadiness.remove(.writable)
    // What is to be made of it is seen by who sends or receives next.
    case .failed: return
    }
  }

  /// Takes from the application what has been sent of it; false if its connection has failed.
  func takeEarly(_ index: Int, _ count: Int) -> Bool {
    guard let downstream = sessions[index].pointee.downstream?.rawValue,
      case .bytes(count) = discard(count, from: downstream)
    else {
      fail(index, .resetByDownstream)
      return false
    }
    noteMoved(index, sent: count, received: 0)
    return true
  }
}
