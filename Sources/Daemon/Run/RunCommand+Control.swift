internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import Logging
internal import NFTables
internal import RedirectPolicy

extension RunCommand {
  /// Who may use the control socket beside root, and the metrics' where that is a file, if nothing else is said.
  static let usualControlGroup = "sluice"

  /// Of those who may use the control socket, and the metrics' where that is a file; root's where there is no such group.
  var controlGroup: UInt32 {
    Accounts.group(named: configuration.controlGroup ?? Self.usualControlGroup) ?? 0
  }

  /// Makes sure that there is the group that the user names.
  func checkControlGroup() throws(CommandFailure) {
    guard let name = configuration.controlGroup, Accounts.group(named: name) == nil else { return }
    throw CommandFailure(
      "--control-group \(name): there is no such group (groups: getent group)", .usage)
  }

  /// What carries programs of others, who ask for it by the control socket.
  func makeService(
    _ scope: Scope, _ dataPlane: DataPlane, _ register: UpstreamRegister,
    _ share: NamespaceService.Share, report: @escaping @Sendable (Event) -> Void
  ) -> NamespaceService {
    guard let group = dataPlane.group else {
      preconditionFailure("a run has somewhere to send what it captures")
    }
    return NamespaceService(
      configuration, group, register, mark: scope.policy.numbers.marks.own.value, share,
      post: report)
  }

  /// Nil where none is wanted, or can be had: a run goes on without it.
  func openControl(
    _ dataPlane: DataPlane, _ register: UpstreamRegister, _ board: StatusBoard,
    _ drainRequest: DrainRequest, _ reloadRequest: ReloadRequest, _ service: NamespaceService
  ) -> ControlSocket? {
    guard let path = configuration.control else { return nil }
    do {
      let control = try ControlSocket(
        path, group: controlGroup, service, board, FlowBoard(register, dataPlane, service),
        drainRequest, reloadRequest, log: log)
      try control.start()
      return control
    } catch {
      let reason = error == .addressInUse ? "another process answers there" : "\(error)"
      log.warning(
        """
        no control socket at \(path) (\(reason)): other commands cannot reach this run; --control \
        chooses another path
        """,
        metadata: ["event": "no_control"])
      return nil
    }
  }
}
