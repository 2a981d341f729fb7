internal import LinuxIO
internal import Synchronization

/// A question that each of several workers answers when it comes to it, while one thread waits.
final class FlowInquiry: Sendable {
  private struct Answers {
    var flows: [FlowSnapshot] = []
    var ended: [FlowIdentifier] = []
    var members = MemberSet()
  }

  private let answers = Mutex(Answers())
  private let answered = Semaphore()

  /// A worker has said all that it has to say.
  func finish() { answered.signal() }

  func add(_ flows: [FlowSnapshot]) { answers.withLock { $0.flows += flows } }

  func add(ended flow: FlowIdentifier) { answers.withLock { $0.ended.append(flow) } }

  func add(members: MemberSet) { answers.withLock { $0.members.formUnion(members) } }

  /// Blocks until that many workers have finished; false if they have not by then.
  func wait(for workers: Int, until deadline: Instant) -> Bool {
    for _ in 0..<workers where !answered.wait(until: deadline) { return false }
    return true
  }

  var flows: [FlowSnapshot] { answers.withLock { $0.flows } }
  var ended: [FlowIdentifier] { answers.withLock { $0.ended } }
  var members: MemberSet { answers.withLock { $0.members } }
}

/// How far a worker has come with telling of its flows.
struct FlowWalk {
  let inquiry: FlowInquiry
  /// Its number among the workers of the run.
  let worker: Int
  /// The next slots.
  var session = 0
  var association = 0

  init(_ inquiry: FlowInquiry, worker: Int) {
    self.inquiry = inquiry
    self.worker = worker
  }
}
