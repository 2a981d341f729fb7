internal import Addressing
internal import Configuration
internal import Confinement
internal import DataPlane
internal import LinuxIO
internal import Logging

/// A `sluice run` of this host, which serves by its control socket for as long as the connection lasts.
final class DaemonEngine: ProgramEngine {
  /// Of a line of its: an audit has as many destinations as `Audit` tells apart.
  private static let maximumBytes = 32 << 20
  /// For each answer.
  private static let patience = Timeout.seconds(10)
  /// Before another attempt to connect, while many others want to.
  private static let pauseInterval = Timeout(milliseconds: 10)

  private let path: SocketPath
  private let configuration: Configuration
  private let wantsAudit: Bool
  private let log: Logger
  private var lines: LineStream
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
    var lines = LineStream(try Self.connect(to: path), maximumBytes: Self.maximumBytes)
    let answer = try Self.ask(.exec(version: ControlRequest.execVersion), of: &lines, at: path)
    guard case .service(let service) = answer else { throw Self.misunderstood(path) }
    self.service = service
    self.lines = lines
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
    let answer = try Self.ask(
      .serve(setup.traffic, audit: wantsAudit), sockets.opened, of: &lines, at: path)
    guard case .serving = answer else { throw Self.misunderstood(path) }
    try startedUp { () throws(Errno) in
      try supervisor.watchOnce(lines.rawValue) { [self] in handleLoss() }
    }
  }

  func handleStart() {}

  func end() -> AuditReport? {
    defer { LocalSocket.shutdown(lines.rawValue) }
    guard wantsAudit else { return nil }
    do throws(CommandFailure) {
      guard !isLost else { throw Self.unreachable(path) }
      guard case .audit(let report) = try Self.ask(.end, of: &lines, at: path) else {
        throw Self.misunderstood(path)
      }
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

  // MARK: Pieces

  private static func connect(to path: SocketPath) throws(CommandFailure) -> Descriptor {
    let deadline = Instant.now() + patience
    while true {
      do {
        if let socket = try LocalSocket.connect(to: path) { return socket }
      } catch .accessDenied {
        throw CommandFailure(
          "you may not use the sluice run at \(path): add yourself to the group sluice and log in "
            + "again, or leave out --daemon", .noPermission)
      } catch .noEntry {
        throw unreachable(path)
      } catch .connectionRefused {
        throw unreachable(path)
      } catch {
        throw CommandFailure("cannot reach a sluice run at \(path): \(error)", .unavailable)
      }
      guard Instant.now() < deadline else { throw silent(path) }
      pause(pauseInterval)
    }
  }

  private static func ask(
    _ request: ControlRequest, _ descriptors: [Int32] = [], of lines: inout LineStream,
    at path: SocketPath
  ) throws(CommandFailure) -> ControlAnswer {
    let deadline = Instant.now() + patience
    let line: LineStream.Line?
    do throws(LineStream.Failure) {
      do throws(LineStream.Failure) {
        try lines.send(request.line, descriptors, until: deadline)
      } catch .ended {
        // What was said before it closed says why.
      }
      line = try lines.receive(until: deadline)
    } catch {
      guard error != .timedOut else { throw silent(path) }
      throw CommandFailure(
        "the sluice run at \(path) has ended: start it again, or leave out --daemon", .unavailable)
    }
    guard let line else { throw unreachable(path) }
    guard let answer = ControlAnswer(line: line.bytes) else { throw misunderstood(path) }
    if case .error(let reason) = answer {
      throw CommandFailure("the sluice run at \(path) refuses: \(reason)", .unavailable)
    }
    return answer
  }

  private static func unreachable(_ path: SocketPath) -> CommandFailure {
    CommandFailure(
      "no sluice run is reachable at \(path): start one, or leave out --daemon", .unavailable)
  }

  private static func silent(_ path: SocketPath) -> CommandFailure {
    CommandFailure(
      "the sluice run at \(path) does not answer: start it again, or leave out --daemon",
      .unavailable)
  }

  private static func misunderstood(_ path: SocketPath) -> CommandFailure {
    CommandFailure(
      "what answers at \(path) is no sluice run of this version: start that again", .unavailable)
  }
}
