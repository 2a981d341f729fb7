internal import LinuxIO
internal import Synchronization

/// The way of captured queries to the one worker that carries them, so that a resolver has one
/// connection, not one per worker.
final class QueryCarrier: Sendable {
  /// Queries on their way at most; a worker answers those past that with SERVFAIL.
  static let maximumWaiting = 4096

  private let mailbox: Mailbox<Command>
  private let waiting = Atomic<Int>(0)

  /// - Parameter mailbox: of the worker that carries the queries.
  init(_ mailbox: Mailbox<Command>) { self.mailbox = mailbox }

  /// Whether this is the mailbox of the worker that carries the queries.
  func owns(_ mailbox: Mailbox<Command>) -> Bool { self.mailbox === mailbox }

  /// Hands a query over; false if too many are waiting.
  func post(_ query: CapturedQuery) -> Bool {
    guard waiting.wrappingAdd(1, ordering: .relaxed).newValue <= Self.maximumWaiting else {
      waiting.wrappingSubtract(1, ordering: .relaxed)
      return false
    }
    mailbox.post(.carry(query))
    return true
  }

  var bound: Bound {
    Bound("waiting queries", used: waiting.load(ordering: .relaxed), limit: Self.maximumWaiting)
  }

  /// A query that was handed over has arrived.
  func noteArrival() { waiting.wrappingSubtract(1, ordering: .relaxed) }
}
