internal import Addressing
internal import LinuxIO
internal import Synchronization

/// Looks names up for the embedded server, on threads of its own, since `getaddrinfo` blocks.
final class Resolver: Sendable {
  /// Look-ups that go on at the same time.
  static let threadCount = 4
  /// Look-ups that wait at most; past that a request fails at once.
  static let maximumWaiting = 1024

  private struct Request: Sendable {
    let name: HostName
    let token: UInt64
    let mailbox: Mailbox<Command>
  }

  private struct Queue {
    var requests: [Request] = []
    var isStopped = false
  }

  private let queue = Mutex(Queue())
  private let wakeups = Semaphore()

  /// Starts the threads; they end after `stop`, when their look-up has.
  func start() throws(Errno) {
    for _ in 0..<Self.threadCount {
      try Thread(name: "sluice-resolver") { [self] in run() }.detach()
    }
  }

  func stop() {
    queue.withLock { $0.isStopped = true }
    for _ in 0..<Self.threadCount { wakeups.signal() }
  }

  /// Answers with `Command.resolved` in `mailbox`. False if too many look-ups are waiting.
  func resolve(_ name: HostName, for token: UInt64, answerTo mailbox: Mailbox<Command>) -> Bool {
    let accepted = queue.withLock { queue in
      guard queue.requests.count < Self.maximumWaiting else { return false }
      queue.requests.append(Request(name: name, token: token, mailbox: mailbox))
      return true
    }
    if accepted { wakeups.signal() }
    return accepted
  }

  var bound: Bound {
    Bound(
      "waiting name lookups", used: queue.withLock { $0.requests.count },
      limit: Self.maximumWaiting)
  }

  private func run() {
    while true {
      wakeups.wait()
      let (request, isStopped): (Request?, Bool) = queue.withLock { queue in
        (queue.requests.isEmpty ? nil : queue.requests.removeFirst(), queue.isStopped)
      }
      if isStopped { return }
      guard let request else { continue }
      let addresses = NameResolution.addresses(of: request.name)
      request.mailbox.post(
        .resolved(token: request.token, name: request.name, addresses: addresses))
    }
  }
}
