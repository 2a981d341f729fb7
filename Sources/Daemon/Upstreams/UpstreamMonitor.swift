internal import DataPlane
internal import LinuxIO
internal import SOCKS

/// Whether the upstream answers: asks it at every interval, and at once when flows fail on the way to it.
/// Asking blocks, and has a thread of its own each time.
final class UpstreamMonitor {
  enum State: Sendable {
    case up
    case down
  }

  /// Between two questions, in either state.
  private static let interval: [State: Timeout] = [.up: .seconds(10), .down: .seconds(2)]

  private(set) var state = State.up
  private let upstream: Upstream
  private let mark: UInt32
  private let timeout: Timeout
  private let answers: Mailbox<State>
  private var isAsking = false
  private var nextQuestion: Instant

  init(_ upstream: Upstream, mark: UInt32, timeout: Timeout) throws(Errno) {
    self.upstream = upstream
    self.mark = mark
    self.timeout = timeout
    answers = try Mailbox()
    nextQuestion = .now() + timeout
  }

  /// For registration with `Epoll`: readable when an answer is there.
  var wakeDescriptor: Int32 { answers.wakeDescriptor }

  /// Asks if it is time to.
  func handleTime(now: Instant) {
    if nextQuestion <= now { ask() }
  }

  /// Asks now if a failure says that the upstream itself is in trouble.
  func handleFailure(_ failure: Failure) {
    if failure.concernsUpstream { ask() }
  }

  /// Takes the answer; nil if nothing has changed by it.
  func handleAnswer() -> State? {
    guard let answer = answers.takeAll().last else { return nil }
    isAsking = false
    nextQuestion = .now() + (Self.interval[answer] ?? timeout)
    guard answer != state else { return nil }
    state = answer
    return answer
  }

  private func ask() {
    guard !isAsking else { return }
    let (upstream, mark, timeout, answers) = (upstream, mark, timeout, answers)
    let question: @Sendable () -> Void = {
      let outcome = AdmissionQuestion.ask(upstream, mark: mark, timeout: timeout)
      switch outcome {
      case .replied, .failed(.closed(.reply), _): answers.post(.up)
      case .cannotConnect, .failed, .stuck: answers.post(.down)
      }
    }
    // Without a thread the question waits for the next time.
    nextQuestion = .now() + timeout
    guard let thread = try? Thread(name: "sluice-monitor", question) else { return }
    isAsking = true
    thread.detach()
  }
}
