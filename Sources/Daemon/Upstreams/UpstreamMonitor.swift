internal import DataPlane
internal import LinuxIO

/// Whether the only upstream answers: asks it at every interval, and at once when flows fail on the way to
/// it. Asking blocks, and has a thread of its own each time.
final class UpstreamMonitor {
  enum State: Hashable, Sendable {
    case up
    case down
  }

  /// Between two questions while it lives, where nobody has chosen.
  private static let usualInterval = Timeout.seconds(10)
  /// The same while it is down.
  private static let downInterval = Timeout.seconds(2)
  /// Before the next question to one that has not answered, and is not down yet.
  private static let pause = Timeout(milliseconds: 500)

  private(set) var state: State
  private let upstream: Upstream
  private let question: AdmissionQuestion
  /// Nil: it is not asked while it lives, unless flows fail.
  private let interval: Timeout?
  private let tolerance: Int
  private let answers: Mailbox<State>
  private var isAsking = false
  private var missCount = 0
  private var nextQuestion: Instant

  /// - Parameters:
  ///   - isDown: whether it is known not to answer.
  ///   - timeout: of questions for which the checks have none.
  init(
    _ upstream: Upstream, isDown: Bool, _ checks: HealthChecks, mark: UInt32, timeout: Timeout
  ) throws(Errno) {
    self.upstream = upstream
    question = AdmissionQuestion(
      target: checks.target, mark: mark, timeout: checks.timeout ?? timeout)
    interval = checks.interval(orUsual: Self.usualInterval)
    tolerance = checks.tolerance
    answers = try Mailbox()
    state = isDown ? .down : .up
    upstream.health = state == .down ? .down : .up
    nextQuestion =
      .now() + (state == .down ? Self.downInterval : checks.target == nil ? timeout : Self.pause)
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
    missCount = answer == .up ? 0 : missCount + 1
    let isDown = answer == .down && (state == .down || missCount >= tolerance)
    let pause: Timeout? =
      switch answer {
      case .up: interval?.shortened(by: System.randomBytes(1)[0])
      case .down: isDown ? Self.downInterval : Self.pause
      }
    nextQuestion = pause.map { .now() + $0 } ?? .distantFuture
    guard isDown != (state == .down) else { return nil }
    state = isDown ? .down : .up
    upstream.health = isDown ? .down : .up
    return state
  }

  private func ask() {
    guard !isAsking else { return }
    let (upstream, question, answers) = (upstream, question, answers)
    // Without a thread the question waits for the next time.
    nextQuestion = .now() + Self.downInterval
    let thread = try? Thread(name: "sluice-monitor") {
      answers.post(question.findFailure(of: upstream) == nil ? .up : .down)
    }
    guard let thread else { return }
    isAsking = true
    thread.detach()
  }
}
