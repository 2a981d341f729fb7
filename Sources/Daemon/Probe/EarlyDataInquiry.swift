internal import Addressing
internal import DataPlane
internal import LinuxIO

/// Finds out whether what goes out before an upstream's reply arrives, in all ways in which flows send it. All
/// connections are our own: no application loses anything by it.
struct EarlyDataInquiry {
  /// What of a server depends on how much it reads at once may come out one way or the other.
  private static let trials = 2

  /// What came of one way.
  struct Evidence: Hashable, Sendable {
    /// Of questions to targets of our own; nil where they are out of reach.
    var testimonies: [Witness.Testimony?] = []
    /// Of one to a resolver.
    var exchange: Exchange?
  }

  enum Verdict: Hashable, Sendable {
    /// Everything has arrived, in each way.
    case arrives
    /// Something has not.
    case isLost
    case unknown
  }

  private let plain: Inquiry<Exchange>
  private let ways: [(witnesses: [Inquiry<Witness.Testimony?>], resolver: Inquiry<Exchange>)]

  /// Asks, on threads of its own.
  /// - Parameter isPipelined: the whole handshake may go out with it in one write.
  init(
    _ upstream: Upstream, isPipelined: Bool, resolver: Endpoint, mark: UInt32?,
    until deadline: Instant
  ) {
    func ask(_ asking: Asking) -> Inquiry<Exchange> {
      Inquiry { Exchange(asking, upstream, resolver: resolver, mark: mark, until: deadline) }
    }
    plain = ask(.afterwards)
    let asked = EarlyWrite.allCases.filter { isPipelined || $0 != .withHandshake }
    ways = asked.map { write in
      let witnesses = (0..<Self.trials).map { _ in
        Inquiry { Witness.ask(.early(write), upstream, mark: mark, until: deadline) }
      }
      return (witnesses, ask(.early(write)))
    }
  }

  /// Blocks until everything is answered, or the deadline.
  func verdict(until deadline: Instant) -> Verdict {
    let plain = plain.answer(until: deadline)
    return Self.verdict(
      of: ways.map { way in
        Evidence(
          testimonies: way.witnesses.map { $0.answer(until: deadline) ?? nil },
          exchange: way.resolver.answer(until: deadline))
      }, plain: plain)
  }

  /// - Parameter plain: what the resolver does with a question that is not early.
  static func verdict(of ways: [Evidence], plain: Exchange?) -> Verdict {
    func isLost(_ way: Evidence) -> Bool {
      way.testimonies.contains(.lost)
        || way.exchange?.isAnswered == false && plain?.isAnswered == true
    }
    if ways.contains(where: isLost) { return .isLost }
    let haveArrived = ways.allSatisfy { way in
      way.testimonies.contains(.answered) || way.exchange?.isAnswered == true
    }
    return haveArrived && !ways.isEmpty ? .arrives : .unknown
  }
}
