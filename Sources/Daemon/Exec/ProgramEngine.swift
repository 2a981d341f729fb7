internal import Configuration
internal import Confinement
internal import DataPlane
internal import LinuxIO
internal import Logging

/// Who carries what a confined program sends. Its methods are called in this order.
protocol ProgramEngine: AnyObject {
  /// As the user calls it, known before the namespaces are begun.
  var upstreams: UpstreamSelection { get }
  /// Whether the upstream takes IPv6 targets, as far as is known.
  var carriesIPv6: Bool { get }
  /// Makes sure of the upstream.
  /// - Returns: whether it refuses datagrams.
  func reachUpstream() throws(CommandFailure) -> Bool
  /// Begins to carry what arrives at the sockets, which belong to the engine from here on.
  func begin(
    _ setup: ProgramSetup, _ sockets: borrowing ConfinedProgram.Sockets,
    _ supervisor: ProgramSupervisor
  ) throws(CommandFailure)
  /// The program runs.
  func handleStart()
  /// Ends what is left.
  /// - Returns: what the program talked to, where that was asked for and is known.
  func end() -> AuditReport?
}

/// The data plane of this process.
final class OwnEngine: ProgramEngine {
  private let configuration: Configuration
  private let audit: Audit?
  private let log: Logger
  private var group: UpstreamGroup?
  private var descriptors = 0
  private var running: (DataPlane, ProgramSupervisor)?

  init(_ configuration: ProgramConfiguration, log: Logger) {
    self.configuration = configuration.engine
    audit = configuration.audit.map { _ in Audit() }
    self.log = log
  }

  var upstreams: UpstreamSelection { configuration.upstreams }
  var carriesIPv6: Bool { upstreams.members.contains(where: \.last.hasIPv6) }

  func reachUpstream() throws(CommandFailure) -> Bool {
    // The program has the limit that it was given.
    descriptors = DescriptorLimit.raise()
    // The embedded server starts with the data plane.
    if configuration.upstream.first.isThisProcess { return false }
    let timeout = Timeouts(configuration).connect
    let group = try UpstreamSetup.reach(
      try UpstreamSetup.places(upstreams), upstreams, mark: nil, timeout: timeout, log: log)
    self.group = group
    let refusal = group.askForDatagrams(mark: nil, timeout: timeout)
    if let refusal { log.tell(refusal, configuration, level: .notice) }
    return refusal != nil
  }

  func begin(
    _ setup: ProgramSetup, _ sockets: borrowing ConfinedProgram.Sockets,
    _ supervisor: ProgramSupervisor
  ) throws(CommandFailure) {
    let dataPlane = try setup.dataPlane(
      group, sockets, audit, descriptors: descriptors, report: supervisor.post)
    try startedUp { () throws(Errno) in
      try dataPlane.start()
      try dataPlane.watchGroup()
    }
    running = (dataPlane, supervisor)
  }

  func handleStart() {
    guard let group = running?.0.group else { return }
    var questions = UpstreamQuestions(mark: nil, log: log)
    for (index, (upstream, chain)) in zip(group.members, upstreams.members).enumerated() {
      questions.add(upstream, chain, in: index, configuration)
      questions.ask(index)
    }
  }

  func end() -> AuditReport? {
    guard let (dataPlane, supervisor) = running else { return nil }
    dataPlane.stop()
    supervisor.summarise(dataPlane)
    return audit.map { AuditReport($0) }
  }
}
