internal import Synchronization

/// A letter box between threads: any thread posts, the owner is woken and takes all at once.
package final class Mailbox<Message: Sendable>: Sendable {
  private let messages = Mutex<[Message]>([])
  private let waker: Waker

  package init() throws(Errno) { waker = try Waker() }

  /// For registration with the owner's `Epoll`.
  package var wakeDescriptor: Int32 { waker.rawValue }

  package func post(_ message: Message) {
    messages.withLock { $0.append(message) }
    waker.wake()
  }

  package func takeAll() -> [Message] {
    waker.clear()
    return messages.withLock { waiting in
      defer { waiting = [] }
      return waiting
    }
  }
}
