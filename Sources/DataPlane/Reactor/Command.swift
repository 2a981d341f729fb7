internal import Addressing
internal import SOCKS

/// What other threads ask of a worker.
enum Command: Sendable {
  /// A name was looked up for the session that `token` stands for; empty if that failed.
  case resolved(token: UInt64, name: HostName, addresses: [IPAddress])
  /// A step was made towards the security context of what `token` stands for.
  case stepped(token: UInt64, Result<SecurityStep, SecurityFailure>)
  /// A captured query, for the worker that carries them.
  case carry(CapturedQuery)
  /// Sessions and associations take as long, and end in such ways, from now on.
  case adopt(Timeouts, HalfClose)
  /// Flows that come are held against these rules; nil: against none.
  case rule(Policy?)
  /// New flows go through other upstreams from now on, by these rules.
  case regroup(GroupChange)
  /// Tell which upstreams are in use.
  case tellMembers(FlowInquiry)
  /// Tell of all flows, as those of the worker of this number.
  case list(FlowInquiry, worker: Int)
  /// End these flows, which are of this worker or were.
  case end([FlowIdentifier], FlowInquiry)
  /// Accept nothing more, once those have been that have connected already, or at once; report when the
  /// last session is gone.
  case drain(acceptsWaiting: Bool)
  /// End now: sessions that are left are reset.
  case stop
}
