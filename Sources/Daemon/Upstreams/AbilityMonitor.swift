internal import DataPlane
internal import LinuxIO
internal import SOCKS

/// What the upstream cannot do: asks it, on a thread of its own each time, and asks again while it
/// relays no datagrams, since servers are configured anew and started again.
final class AbilityMonitor {
  enum Ability: Sendable {
    case noIPv6
    /// After it did not.
    case carriesIPv6
    case relaysDatagrams
  }

  /// Between two questions to an upstream that refuses datagrams.
  private static let interval = Timeout.seconds(30)

  private let upstream: Upstream
  private let mark: UInt32
  private let timeout: Timeout
  private let answers: Mailbox<Ability>
  private var nextQuestion: Instant

  init(_ upstream: Upstream, mark: UInt32, timeout: Timeout) throws(Errno) {
    self.upstream = upstream
    self.mark = mark
    self.timeout = timeout
    answers = try Mailbox()
    nextQuestion = .now() + Self.interval
  }

  /// For registration with `Epoll`: readable when an answer is there.
  var wakeDescriptor: Int32 { answers.wakeDescriptor }

  func takeAll() -> [Ability] { answers.takeAll() }

  /// Asks for an IPv6 target; there is an answer when the upstream turns out to be otherwise than it was taken
  /// for. Nil, and an answer, where its protocol has none.
  func questionForIPv6() -> RenewedQuestion? {
    guard upstream.hasIPv6 else {
      answers.post(.noIPv6)
      return nil
    }
    let (upstream, mark, timeout, answers) = (upstream, mark, timeout, answers)
    return RenewedQuestion {
      let outcome = UpstreamProbe.run(
        upstream, to: UpstreamProbe.targetV6, mode: .stepwise, mark: mark, timeout: timeout)
      switch outcome {
      case .replied(let code):
        let carriesIPv6 = code != .addressTypeNotSupported
        guard carriesIPv6 != upstream.carriesIPv6 else { return false }
        upstream.carriesIPv6 = carriesIPv6
        answers.post(carriesIPv6 ? .carriesIPv6 : .noIPv6)
        return false
      case .cannotConnect: return true
      case .failed, .stuck: return false
      }
    }
  }

  /// Asks an upstream that refuses datagrams whether it still does, if it is time to.
  func handleTime(now: Instant) {
    guard nextQuestion <= now else { return }
    nextQuestion = now + Self.interval
    guard upstream.hasDatagrams, upstream.datagramAbility == .refuses else { return }
    let (upstream, mark, timeout, answers) = (upstream, mark, timeout, answers)
    let question: @Sendable () -> Void = {
      let refusal = UpstreamProbe.askForDatagrams(upstream, mark: mark, timeout: timeout)
      if refusal == nil, upstream.datagramAbility == .relays { answers.post(.relaysDatagrams) }
    }
    // Without a thread the question waits for the next time.
    try? Thread(name: "sluice-probe", question).detach()
  }
}
