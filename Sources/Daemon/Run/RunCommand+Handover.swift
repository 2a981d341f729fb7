internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import Logging
internal import RedirectPolicy

// The end of a run that another process continues: nothing of it is taken away.

extension RunCommand {
  /// How long flows that are open may take to end, while new ones wait.
  private static let handoverPatience = Timeout.seconds(1)

  /// Leaves with the service manager what the next process continues with.
  /// - Parameter forwarding: what it was before it was turned on, as that records it.
  /// - Returns: whether it can: the manager keeps that, and the process finds what it needs.
  func isContinuable(
    _ scope: Scope, forwarding: String, _ rules: RuleKeeper, _ store: DescriptorStore,
    _ manager: ServiceManager
  ) -> Bool {
    if manager.storedDescriptors > 0, canBeContinued(scope),
      store.store(rules.owner, forwarding, with: manager)
    {
      return true
    }
    store.clear(manager)
    return false
  }

  /// Whether another process finds what it needs where this one has left everything in place.
  private func canBeContinued(_ scope: Scope) -> Bool {
    if scope.policy.machine != nil, configuration.upstreams.members.contains(where: \.first.hasName)
    {
      log.notice(
        "a restart will end what is captured meanwhile: nobody could look up the upstream's name then",
        metadata: ["event": "no_handover"])
      return false
    }
    return true
  }

  /// Accepts nothing more, and gives what is open a moment to end.
  func handOver(_ dataPlane: DataPlane, _ control: ControlSocket?, _ supervisor: Supervisor) {
    func liveSessions() -> UInt64 {
      dataPlane.snapshot().liveSessions + (control?.liveSessions ?? 0)
    }
    log.notice(
      "leaving the rules and what waits to the next run; open flows: \(liveSessions())",
      metadata: [
        "event": "handing_over", "live_sessions": .stringConvertible(liveSessions()),
      ])
    dataPlane.drain(acceptsWaiting: false)
    control?.drain()
    let end = Instant.now() + Self.handoverPatience
    var isOver = false
    // The service manager's SIGTERM follows at once, and is no reason to hurry.
    while !isOver, Instant.now() < end {
      let rest = Timeout(milliseconds: UInt32(clamping: end.milliseconds(since: .now())))
      supervisor.waitForDrain(of: dataPlane, timeout: rest) {
        isOver =
          !dataPlane.isListening && dataPlane.snapshot().isIdle
          && (control?.liveSessions ?? 0) == 0
        return isOver
      }
    }
  }
}

extension UpstreamURL {
  /// Whether its server's address has to be looked up.
  fileprivate var hasName: Bool {
    switch server {
    case .host(.name): true
    case .host(.address), .socket, nil: false
    }
  }
}
