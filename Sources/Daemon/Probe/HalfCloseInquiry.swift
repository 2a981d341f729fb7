internal import Addressing
internal import DataPlane
internal import LinuxIO

/// Finds out what an upstream makes of the end of what we send.
struct HalfCloseInquiry {
  /// A race between answer and end may be won by the answer.
  private static let trials = 2

  private let plain: [Inquiry<Exchange>]
  private let ending: [Inquiry<Exchange>]
  private let witness: Inquiry<Witness.Testimony?>

  /// Asks, on threads of its own.
  init(_ upstream: Upstream, resolver: Endpoint, mark: UInt32?, until deadline: Instant) {
    func ask(_ asking: Asking) -> [Inquiry<Exchange>] {
      (0..<Self.trials).map { _ in
        Inquiry { Exchange(asking, upstream, resolver: resolver, mark: mark, until: deadline) }
      }
    }
    plain = ask(.afterwards)
    ending = ask(.ending)
    witness = Inquiry { Witness.ask(.ending, upstream, mark: mark, until: deadline) }
  }

  /// Blocks until everything is answered, or the deadline.
  func evidence(until deadline: Instant) -> HalfCloseEvidence {
    HalfCloseEvidence(
      plain: plain.compactMap { $0.answer(until: deadline) },
      ending: ending.compactMap { $0.answer(until: deadline) },
      testimony: witness.answer(until: deadline) ?? nil)
  }
}
