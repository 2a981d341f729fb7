internal import Addressing
package import Configuration
internal import Confinement
internal import DataPlane
internal import LinuxIO
package import Logging
internal import RedirectPolicy

/// `sluice exec`: one program in namespaces of its own, from which nothing leads out but the upstream.
/// The engine is outside: this process, or a `sluice run`.
package struct ExecCommand {
  private let configuration: ProgramConfiguration
  private let log: Logger
  private let isJSON: Bool

  /// - Parameter isJSON: of what is told at the end.
  package init(_ configuration: ProgramConfiguration, log: Logger, isJSON: Bool) {
    self.configuration = configuration
    self.log = log
    self.isJSON = isJSON
  }

  /// Ends this process like the program has ended.
  package func run() throws(CommandFailure) -> Never {
    let ending = try confineAndWait()
    ChildProcess.end(like: ending)
  }

  private func confineAndWait() throws(CommandFailure) -> ChildProcess.Ending {
    try startedUp { () throws(Errno) in try ThisProcess.occupyStandardDescriptors() }
    // Those that the program inherits are no longer ours then: whoever reads a pipe waits for it alone.
    let inherited = ThisProcess.inheritedDescriptors
    let output = try AuditOutput(configuration.audit, isJSON: isJSON)
    let engine = try makeEngine()
    let setup = ProgramSetup(configuration, engine.upstreams, carriesIPv6: engine.carriesIPv6)
    if setup.names.isLost {
      log.warning(
        """
        this host's resolver is on its loopback, where the upstream does not reach it: names will not \
        be found; choose another with --dns-server ADDRESS
        """, metadata: ["event": "no_resolver"])
    }
    let program = try setup.begin()
    ThisProcess.close(inherited)

    let refusesDatagrams = try engine.reachUpstream()
    let sockets = try confined { () throws(Obstacle) in
      try program.install(refusesDatagrams: refusesDatagrams)
    }
    try startedUp { () throws(Errno) in
      try ChildProcess.adoptOrphans()
      try ThisProcess.hide()
      try ThisProcess.releaseStandardInputAndOutput()
    }
    let supervisor = try startedUp { () throws(Errno) in
      try ProgramSupervisor(
        of: program.process, reporter: Reporter(log: log, upstreams: engine.upstreams))
    }
    try engine.begin(setup, sockets, supervisor)
    program.start()
    engine.handleStart()
    UpstreamSecrets.tell(configuration.engine, log)
    let ending = supervisor.wait(linger: configuration.linger.map { .seconds($0) }) {
      log.warning(
        "the program has ended; what it left running is still served (Ctrl-C ends that)",
        metadata: ["event": "lingering"])
    }
    if let error = try confined({ () throws(Obstacle) in try program.failure() }) {
      throw CommandFailure(execution: error, of: configuration.command[0])
    }
    if let report = engine.end() { output.tell(report, log) }
    return ending
  }

  private func makeEngine() throws(CommandFailure) -> any ProgramEngine {
    if let path = configuration.daemon {
      return try DaemonEngine(path, configuration, log: log)
    }
    return OwnEngine(configuration, log: log)
  }
}

/// Runs a step in which only what confines the program can be the trouble.
private func confined<Result: ~Copyable>(
  _ step: () throws(Obstacle) -> Result
) throws(CommandFailure) -> Result {
  do {
    return try step()
  } catch {
    throw CommandFailure(error.message, error.isForbidden ? .noPermission : .unavailable)
  }
}

extension CommandFailure {
  /// As shells and `env(1)` have it.
  fileprivate init(execution error: Errno, of program: String) {
    self.init(
      "cannot execute \(program): \(error)", error == .noEntry ? .notFound : .notExecutable)
  }
}
