internal import LinuxIO
internal import Synchronization

/// A question that a thread of its own answers, so that several are asked side by side and none is waited
/// for longer than the asker likes. The thread ends by itself.
final class Inquiry<Answer: Sendable>: Sendable {
  private let result = Mutex<Answer?>(nil)
  private let arrival = Semaphore()

  init(_ question: @escaping @Sendable () -> Answer) {
    do {
      try Thread(name: "sluice-probe") { [self] in take(question()) }.detach()
    } catch {
      // Without a thread it is answered in this one.
      take(question())
    }
  }

  private func take(_ answer: Answer) {
    result.withLock { $0 = answer }
    arrival.signal()
  }

  /// Blocks until there is an answer; nil if there is none by `deadline`.
  func answer(until deadline: Instant) -> Answer? {
    if arrival.wait(until: deadline) { arrival.signal() }
    return result.withLock { $0 }
  }
}
