internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO

/// Where an upstream is that is given by its name: looks the name up again when its address fails, and
/// finds out at which address it lets us in now. Both block, and have a thread of their own each time. A name
/// that leads nowhere is looked up again, less and less often.
final class AddressMonitor {
  /// Where the upstream lets us in.
  struct Answer: Sendable {
    let place: Upstream.Place
    /// All that its name has now.
    let addresses: [IPAddress]
  }

  /// Between two questions at least.
  private static let interval = Timeout.seconds(2)
  /// The same at most, while the name leads nowhere: it is doubled each time, and a random part of up to a
  /// quarter is taken off.
  private static let longestInterval = Timeout.seconds(30)

  private enum Outcome: Sendable {
    case found(Answer)
    /// The upstream lets us in at none of its addresses.
    case refused
    /// There are none.
    case unresolved
  }

  private let name: HostName
  private let port: UInt16
  private let upstream: Upstream
  private let mark: UInt32?
  private let timeout: Timeout
  private let answers: Mailbox<Outcome>
  private var isAsking = false
  private var interval = AddressMonitor.interval
  private var nextQuestion = Instant.now()

  /// Nil where the upstream is not given by its name.
  init?(
    _ chain: UpstreamChain, _ upstream: Upstream, mark: UInt32?, timeout: Timeout
  ) throws(Errno) {
    guard case .host(.name(let name, let port))? = chain.first.server else { return nil }
    self.name = name
    self.port = port
    self.upstream = upstream
    self.mark = mark
    self.timeout = timeout
    answers = try Mailbox()
  }

  /// For registration with `Epoll`: readable when an answer is there.
  var wakeDescriptor: Int32 { answers.wakeDescriptor }

  /// Asks if a failure says that the upstream cannot be connected to.
  /// - Parameter known: its addresses so far, for a look-up that fails, as one that has to go through the
  ///   upstream itself does.
  func handleFailure(_ failure: Failure, known: [IPAddress]) {
    guard failure.isOfConnecting, !isAsking, nextQuestion <= .now() else { return }
    let (name, port, upstream, mark) = (name, port, upstream, mark)
    let (race, answers) = (AddressRace(mark: mark, timeout: timeout), answers)
    let question: @Sendable () -> Void = {
      var found = NameResolution.addresses(of: name)
      if found.isEmpty, let mark { found = DirectLookup(mark: mark).addresses(of: name) }
      let addresses = AddressRace.interlaced(found.isEmpty ? known : found)
      let attempt = race.run(
        addresses.map { upstream.moved(to: .address(SocketAddress($0, port))) })
      guard let attempt, attempt.isLetIn else {
        answers.post(addresses.isEmpty ? .unresolved : .refused)
        return
      }
      answers.post(.found(Answer(place: attempt.upstream.place, addresses: addresses)))
    }
    nextQuestion = .now() + Self.interval
    guard let thread = try? Thread(name: "sluice-address", question) else { return }
    isAsking = true
    thread.detach()
  }

  /// Takes the answer; nil if the upstream lets us in nowhere, or where it was before.
  func handleAnswer() -> Answer? {
    guard let outcome = answers.takeAll().last else { return nil }
    isAsking = false
    nextQuestion = .now() + interval.shortened(by: System.randomBytes(1)[0])
    guard case .unresolved = outcome else {
      interval = Self.interval
      guard case .found(let answer) = outcome, answer.place != upstream.place else { return nil }
      return answer
    }
    interval = min(Timeout(milliseconds: interval.milliseconds * 2), Self.longestInterval)
    return nil
  }
}

extension Failure {
  /// Whether there was no connection to the upstream.
  fileprivate var isOfConnecting: Bool {
    switch self {
    case .connectRefused, .connectUnreachable, .connectTimeout, .connectFailed, .noLocalPort: true
    default: false
    }
  }
}
