internal import Addressing
internal import DataPlane
internal import LinuxIO
internal import SOCKS
internal import Synchronization

/// Asks an upstream at several addresses, a while after one another, and takes the first that lets us in
/// (Happy Eyeballs, RFC 8305): one that does not answer holds nobody up.
struct AddressRace {
  /// How long one is waited for before the next is asked as well (RFC 8305, section 8).
  static let headStart = Timeout(milliseconds: 250)

  private let mark: UInt32?
  private let timeout: Timeout

  init(mark: UInt32?, timeout: Timeout) {
    self.mark = mark
    self.timeout = timeout
  }

  /// What the threads that ask leave for the one that waits.
  private final class Results: Sendable {
    let attempts = Mutex<[UpstreamSetup.Attempt]>([])
    let arrivals = Semaphore()

    func add(_ attempt: UpstreamSetup.Attempt) {
      attempts.withLock { $0.append(attempt) }
      arrivals.signal()
    }
  }

  /// Blocks until one lets us in, or none has. Those that are still being asked then end by themselves.
  /// - Parameter upstreams: the same at each of its addresses, in the order in which to ask.
  /// - Returns: the first that lets us in, or else what came of the first of the list; nil if that is
  ///   empty.
  func run(_ upstreams: [Upstream]) -> UpstreamSetup.Attempt? {
    guard upstreams.count > 1 else { return upstreams.first.map(ask) }
    let results = Results()
    var rest = upstreams[...]
    var pending = 0
    while true {
      if let next = rest.popFirst() {
        begin(next, results)
        pending += 1
      }
      if pending > 0 {
        if rest.isEmpty {
          results.arrivals.wait()
        } else if !results.arrivals.wait(until: .now() + Self.headStart) {
          continue
        }
        pending -= 1
      }
      let attempts = results.attempts.withLock { $0 }
      if let attempt = attempts.first(where: \.isLetIn) { return attempt }
      guard pending > 0 || !rest.isEmpty else {
        return attempts.first { $0.upstream === upstreams[0] }
      }
    }
  }

  /// Without a thread it is asked in this one.
  private func begin(_ upstream: Upstream, _ results: Results) {
    do {
      try Thread(name: "sluice-race") { results.add(ask(upstream)) }.detach()
    } catch {
      results.add(ask(upstream))
    }
  }

  private func ask(_ upstream: Upstream) -> UpstreamSetup.Attempt {
    let question = AdmissionQuestion(mark: mark, timeout: timeout)
    return UpstreamSetup.Attempt(upstream: upstream, outcome: question.ask(upstream))
  }

  /// The addresses by turns of their families, so that a whole family that does not work costs one
  /// head start (RFC 8305, section 4); each family, and which of them begins, in the given order.
  static func interlaced(_ addresses: [IPAddress]) -> [IPAddress] {
    guard let first = addresses.first else { return [] }
    let (leading, others) = (
      addresses.filter { $0.isIPv4 == first.isIPv4 }, addresses.filter { $0.isIPv4 != first.isIPv4 }
    )
    var order: [IPAddress] = []
    for index in 0..<max(leading.count, others.count) {
      if index < leading.count { order.append(leading[index]) }
      if index < others.count { order.append(others[index]) }
    }
    return order
  }
}
