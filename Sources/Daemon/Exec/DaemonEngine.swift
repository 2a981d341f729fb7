internal import Addressing
internal import Configuration
internal import Confinement
internal import DataPlane
internal import LinuxIO
internal import Logging

/// A `sluice run` of this host, which serves by its control socket for as long as the connection lasts.
final class DaemonEngine: ProgramEngine {
  private let path: SocketPath
  private let configuration: Configuration
  private let wantsAudit: Bool
  private let log: Logger
  private var client: ControlClient
  private let service: ServiceDescription
  private var isLost = false

  /// Asks what the run has to offer.
  init(
    _ path: SocketPath, _ configuration: ProgramConfiguration, log: Logger
  ) throws(CommandFailure) {
    self.path = path
    self.configuration = configuration.engine
    wantsAudit = configuration.audit != nil
    self.log = log
    var client = try ControlClient(path, orElse: ", or leave out --daemon")
    let answer = try client.ask(.exec(version: ControlRequest.execVersion))
    guard case .service(let service) = answer else { throw client.misunderstood }
    self.service = service
    self.client = client
  }

  var upstreams: UpstreamSelection { service.upstreams }
  var carriesIPv6: Bool { service.carriesIPv6 }

  func reachUpstream() -> Bool {
    let isRefused = service.datagrams == .refuses
    if isRefused { log.tellRefusal(by: upstreams, nil, configuration, level: .notice) }
    return isRefused
  }

  func begin(
    _ setup: ProgramSetup, _ sockets: borrowing ConfinedProgram.Sockets,
    _ supervisor: ProgramSupervisor
  ) throws(CommandFailure) {
    defer { ThisProcess.close(sockets.opened) }
    let answer = try client.ask(.serve(setup.traffic, audit: wantsAudit), sockets.opened)
    guard case .serving = answer else { throw client.misunderstood }
    try startedUp { () throws(Errno) in
      try supervisor.watchOnce(client.rawValue) { [self] in handleLoss() }
    }
  }

  func handleStart() {}

  func end() -> AuditReport? {
    defer { client.end() }
    guard wantsAudit else { return nil }
    do throws(CommandFailure) {
      guard !isLost else { throw client.unreachable }
      guard case .audit(let report) = try client.ask(.end) else { throw client.misunderstood }
      return report
    } catch {
      log.error("cannot tell the audit: \(error.message)", metadata: ["event": "audit_lost"])
      return nil
    }
  }

  private func handleLoss() {
    isLost = true
    log.warning(
      "the sluice run at \(path) has ended: the program goes on without connectivity",
      metadata: ["event": "engine_lost"])
  }
}
