internal import GSSAPI
internal import LinuxIO
internal import SOCKS
internal import Synchronization

/// Makes the steps of security contexts for the workers, on threads of its own, since a step may ask a
/// key distribution centre and block. A thread ends when no step waits.
final class SecurityStepper: Sendable {
  /// Steps that go on at the same time.
  static let maximumThreads = 4
  /// Steps that wait at most; past that a handshake fails at once.
  static let maximumWaiting = 1024

  private struct Request: Sendable {
    let context: SecurityContext
    let serverToken: [UInt8]
    let token: UInt64
    let mailbox: Mailbox<Command>
  }

  private struct Queue {
    var requests: [Request] = []
    var threadCount = 0
  }

  private let queue = Mutex(Queue())

  var waitingCount: Int { queue.withLock { $0.requests.count } }

  /// Steps `context` with what the server has said, and answers with `Command.stepped` in `mailbox`; the
  /// context is not to be used before. False if there is no room.
  func step(
    _ context: SecurityContext, _ serverToken: [UInt8], for token: UInt64,
    answerTo mailbox: Mailbox<Command>
  ) -> Bool {
    let (accepted, startsThread) = queue.withLock { queue in
      guard queue.requests.count < Self.maximumWaiting else { return (false, false) }
      queue.requests.append(
        Request(context: context, serverToken: serverToken, token: token, mailbox: mailbox))
      guard queue.threadCount < Self.maximumThreads else { return (true, false) }
      queue.threadCount += 1
      return (true, true)
    }
    if startsThread { startThread() }
    return accepted
  }

  private func startThread() {
    do {
      try Thread(name: "sluice-gssapi") { [self] in run() }.detach()
    } catch {
      // What waits is left to the other threads; with none of them it fails.
      let stranded = queue.withLock { queue in
        queue.threadCount -= 1
        guard queue.threadCount == 0 else { return [Request]() }
        defer { queue.requests = [] }
        return queue.requests
      }
      for request in stranded { answer(request, .failure(SecurityFailure("\(error)"))) }
    }
  }

  private func run() {
    while let request = next() {
      answer(
        request,
        Result { () throws(SecurityFailure) in
          try request.context.step(request.serverToken)
        })
    }
  }

  /// The step that has waited longest; nil, and one thread less, if there is none.
  private func next() -> Request? {
    queue.withLock { queue in
      guard queue.requests.isEmpty else { return queue.requests.removeFirst() }
      queue.threadCount -= 1
      return nil
    }
  }

  private func answer(_ request: Request, _ result: Result<SecurityStep, SecurityFailure>) {
    request.mailbox.post(.stepped(token: request.token, result))
  }
}
