internal import LinuxIO

/// How long the phases of one handshake have taken, in microseconds: those that have ended and that it has.
package struct HandshakeTiming: Hashable, Sendable {
  package private(set) var connect: UInt64?
  package private(set) var authentication: UInt64?
  package private(set) var request: UInt64?

  /// What goes on, and since when.
  private(set) var present: FlowPhase?
  private var since = ClockReading(microseconds: 0)

  mutating func begin(_ phase: FlowPhase, at now: ClockReading) {
    present = phase
    since = now
  }

  /// Ends what goes on, as `phase`, for it may turn out to have been another.
  /// - Returns: how long that took, in microseconds.
  mutating func end(as phase: FlowPhase, at now: ClockReading) -> UInt64 {
    present = nil
    let microseconds = now.microseconds(since: since)
    switch phase {
    case .connect: connect = microseconds
    case .authentication: authentication = microseconds
    case .request: request = microseconds
    case .firstByte: preconditionFailure("no phase of a handshake")
    }
    return microseconds
  }
}
