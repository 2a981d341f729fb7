internal import LinuxIO
internal import SOCKS

/// How long the phases of captured flows take. The worker has read the clock at the beginning of its turn
/// anyway, which is nearer to when an event came than a reading of its own would be.
extension Worker {
  /// Has a negotiation be in a phase from now on; one that it was in before has ended well.
  func enter(_ phase: FlowPhase, _ negotiation: Negotiation) {
    guard let present = negotiation.timing.present else {
      negotiation.timing.begin(phase, at: clock)
      return
    }
    guard present != phase else { return }
    note(negotiation.timing.end(as: present, at: clock), present, of: negotiation.member)
    negotiation.timing.begin(phase, at: clock)
  }

  /// A negotiation has come to its end, and its session waits for the first byte. What was answered along
  /// with the request was a part of it.
  func endTiming(_ negotiation: Negotiation, of session: UnsafeMutablePointer<Session>) {
    if negotiation.timing.present != nil {
      note(negotiation.timing.end(as: .request, at: clock), .request, of: negotiation.member)
    }
    session.pointee.awaitsByteSince = clock.stamp
  }

  /// The first byte of the upstream's side has reached the downstream.
  func noteFirstByte(of session: UnsafeMutablePointer<Session>) {
    let since = session.pointee.awaitsByteSince
    guard since != .none else { return }
    session.pointee.awaitsByteSince = .none
    note(clock.microseconds(since: since), .firstByte, of: Int(session.pointee.member))
  }

  private func note(_ microseconds: UInt64, _ phase: FlowPhase, of member: Int) {
    phases.add(microseconds, to: phase, of: member)
  }
}

extension Negotiation {
  /// What its handshake waits for.
  var flowPhase: FlowPhase {
    guard isAtLastHop else { return .authentication }
    return switch phase {
    case .reply, .answer: .request
    case .methodSelection, .authentication, nil: .authentication
    }
  }
}
