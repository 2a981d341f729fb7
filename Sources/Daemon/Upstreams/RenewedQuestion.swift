internal import LinuxIO
internal import Synchronization

/// Something that is found out of an upstream: at the start, again when the server behind its address may be
/// another one, and now and then. Asking blocks, and has a thread of its own each time.
final class RenewedQuestion: Sendable {
  /// Between two questions at least.
  private static let pause = Timeout.seconds(10)
  /// After which what is known is asked for again without a reason: servers are started anew while no flow
  /// needs them.
  private static let renewal = Timeout.seconds(600)

  private struct State {
    var isAsking = false
    /// What is known may not be true any more.
    var isDoubtful = false
    var nextQuestion = Instant(milliseconds: 0)
    var nextRenewal = Instant.distantFuture
  }

  private let question: @Sendable () -> Bool
  private let state = Mutex(State())

  /// - Parameter question: blocks until it has an answer, which is its own affair, or none; returns whether
  ///   to ask again soon.
  init(_ question: @escaping @Sendable () -> Bool) { self.question = question }

  func ask() {
    let now = Instant.now()
    let isAsked = state.withLock { state in
      guard !state.isAsking else { return false }
      state.isAsking = true
      state.isDoubtful = false
      state.nextQuestion = now + Self.pause
      state.nextRenewal = now + Self.renewal
      return true
    }
    guard isAsked else { return }
    do {
      try Thread(name: "sluice-probe") { [self] in take(isDoubtful: question()) }.detach()
    } catch {
      // The question waits for the next time.
      take(isDoubtful: true)
    }
  }

  private func take(isDoubtful: Bool) {
    state.withLock { state in
      state.isAsking = false
      if isDoubtful { state.isDoubtful = true }
    }
  }

  /// The upstream is somewhere else, or is back, or may be another one.
  func handleReturn() { state.withLock { $0.isDoubtful = true } }

  /// Asks again if it is time to.
  func handleTime(now: Instant) {
    let isDue = state.withLock { state in
      state.isDoubtful && state.nextQuestion <= now || state.nextRenewal <= now
    }
    if isDue { ask() }
  }
}
