internal import RedirectPolicy
internal import Synchronization

/// How the rules of a run are, and what has become of them: the run's thread notes it, others ask.
final class RuleRecord: Sendable {
  struct State: Hashable {
    /// What they capture, for people.
    var scope = ""
    /// Nil while they are not in place.
    var phase: RedirectPolicy.Phase?
    /// How often something was put back that others had taken away.
    var restored = 0
    /// Kernel settings that others have changed.
    var changedSettings = 0
    /// How often rules of others were found to redirect what is ours.
    var foreign = 0
    /// Why something could not be put back, while that lasts.
    var trouble: String?
  }

  private let record = Mutex(State())

  var state: State { record.withLock { $0 } }

  /// These are in place now.
  func note(_ policy: RedirectPolicy) {
    let scope = Scope(policy).description
    note { state in
      state.scope = scope
      state.phase = policy.phase
    }
  }

  func note(_ change: (inout sending State) -> Void) { record.withLock { change(&$0) } }
}
