internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import Logging
internal import SOCKS

/// One process at the control socket, and what it is answered, on a thread of its own. It may do
/// whatever it likes: it is answered with an error then, and the connection is closed.
struct ControlConnection: ~Copyable {
  /// Of a line that is received.
  private static let maximumBytes = 64 << 10
  /// For a line to arrive, or to be taken.
  private static let patience = Timeout.seconds(10)

  private var lines: LineStream
  private let service: NamespaceService
  private let status: @Sendable () -> RunStatus
  private let flows: FlowBoard
  private let drainRequest: DrainRequest
  private let reloadRequest: ReloadRequest
  private let log: Logger

  /// - Parameter status: what `status` is answered.
  init(
    _ socket: consuming Descriptor, _ service: NamespaceService,
    _ status: @escaping @Sendable () -> RunStatus,
    _ flows: FlowBoard, _ drainRequest: DrainRequest, _ reloadRequest: ReloadRequest, log: Logger
  ) {
    lines = LineStream(socket, maximumBytes: Self.maximumBytes)
    self.service = service
    self.status = status
    self.flows = flows
    self.drainRequest = drainRequest
    self.reloadRequest = reloadRequest
    self.log = log
  }

  /// Answers one after the other until the other side, or `ControlSocket.stop`, ends it.
  mutating func run() {
    do throws(Failure) {
      while let (request, descriptors) = try next(until: .now() + Self.patience) {
        ThisProcess.close(descriptors)
        switch request {
        case .exec(let version): try exec(version)
        case .drain(let timeout): try drain(timeout)
        case .status: try answer(.status(status()))
        case .reload: try reload()
        case .kill(let flows): try kill(flows)
        case .flows(let filters, let order): try list(filters, order)
        case .serve, .end: throw .refused("that comes after exec")
        }
      }
    } catch {
      refuse(error)
    }
  }

  /// Answers one who cannot be served at all.
  func turnAway(_ reason: String) { refuse(.refused(reason)) }

  consuming func close() {}

  private enum Failure: Error {
    case refused(String)
    case line(LineStream.Failure)
  }

  // MARK: Requests

  /// Carries what a program sends, until the connection ends.
  private mutating func exec(_ version: Int) throws(Failure) {
    guard version == ControlRequest.execVersion else {
      throw .refused("it speaks version \(ControlRequest.execVersion) of this, not \(version)")
    }
    try granted { () throws(NamespaceService.Refusal) in try service.enter() }
    defer { service.leave() }
    try answer(.service(service.description))
    guard let (request, descriptors) = try next(until: .now() + Self.patience) else { return }
    guard case .serve(let traffic, let audit) = request else {
      ThisProcess.close(descriptors)
      throw .refused("serve is expected after exec")
    }
    let number = try granted { () throws(NamespaceService.Refusal) in
      try service.open(traffic, descriptors, for: lines.peer, audit: audit)
    }
    log.info("carrying a program for another process (\(who))", metadata: fields("serving"))
    defer {
      service.close(number)
      log.debug("carrying it no more (\(who))", metadata: fields("served"))
    }
    try answer(.serving)
    guard let (request, descriptors) = try next(until: .distantFuture) else { return }
    ThisProcess.close(descriptors)
    guard request == .end, let report = service.close(number) else {
      throw .refused("nothing but the end of an audit comes after serve")
    }
    try answer(.audit(report))
  }

  /// Ends the run; the connection lasts until that is so.
  private mutating func drain(_ timeout: UInt32?) throws(Failure) {
    if let timeout, timeout > UInt32(Configuration.maximumTimeout) {
      throw .refused("a timeout has \(Configuration.maximumTimeout) seconds at most")
    }
    log.notice("told to end by \(who)", metadata: fields("drain_asked"))
    try answer(.draining)
    drainRequest.make(timeout: timeout)
    guard let (_, descriptors) = try next(until: .distantFuture) else { return }
    ThisProcess.close(descriptors)
    throw .refused("nothing comes after drain")
  }

  /// Has the run read its settings again; the connection goes on, whatever has come of it.
  private mutating func reload() throws(Failure) {
    log.notice("told to reload by \(who)", metadata: fields("reload_asked"))
    guard let outcome = reloadRequest.make() else { throw .refused("the run is ending") }
    try answer(.reload(outcome))
  }

  private func list(_ filters: [String], _ order: String) throws(Failure) {
    let list: FlowList
    do {
      guard let order = FlowOrder(rawValue: order) else {
        throw Failure.refused("\(order) is no order: expected age or bytes")
      }
      list = try flows.flows(try filters.map { try FlowFilter($0) }, order)
    } catch let failure as Failure {
      throw failure
    } catch let error as ConfigurationError {
      throw .refused("\(error)")
    } catch {
      throw .refused("a worker does not answer")
    }
    try answer(.flows(list))
  }

  private func kill(_ texts: [String]) throws(Failure) {
    let flows = texts.compactMap { FlowIdentifier($0) }
    guard flows.count == texts.count else { throw .refused("a flow has an ID such as t0.17.3") }
    let ended: [FlowIdentifier]
    do { ended = try self.flows.end(flows) } catch { throw .refused("a worker does not answer") }
    log.notice("told by \(who) to end flows: \(ended.count)", metadata: fields("killed"))
    try answer(.killed(ended.map { "\($0)" }))
  }

  /// For people: the other side.
  private var who: String {
    lines.peer.map { "pid \($0.process), user \($0.user)" } ?? "unknown"
  }

  private func fields(_ event: String) -> Logger.Metadata {
    var fields: Logger.Metadata = ["event": .string(event)]
    if let peer = lines.peer {
      fields["pid"] = .stringConvertible(peer.process)
      fields["uid"] = .stringConvertible(peer.user)
    }
    return fields
  }

  // MARK: Lines

  /// The next request, and the descriptors that came with it; nil at the end.
  private mutating func next(
    until deadline: Instant
  ) throws(Failure) -> (ControlRequest, [Int32])? {
    let line: LineStream.Line?
    do { line = try lines.receive(until: deadline) } catch { throw .line(error) }
    guard var line else { return nil }
    guard let request = ControlRequest(line: line.bytes) else {
      throw .refused("that is no request; are both sluice of one version?")
    }
    return (request, line.take())
  }

  private func answer(_ answer: ControlAnswer) throws(Failure) {
    do {
      try lines.send(answer.line, until: .now() + Self.patience)
    } catch {
      throw .line(error)
    }
  }

  private func granted<Result>(
    _ step: () throws(NamespaceService.Refusal) -> Result
  ) throws(Failure) -> Result {
    do { return try step() } catch { throw .refused(error.message) }
  }

  /// The last that is said here.
  private func refuse(_ failure: Failure) {
    let reason: String
    switch failure {
    case .refused(let text): reason = text
    case .line(.timedOut): reason = "nothing came for \(Self.patience.milliseconds / 1000) s"
    case .line(.lineTooLong): reason = "a line has \(Self.maximumBytes) bytes at most"
    case .line(.tooManyDescriptors):
      reason = "a line comes with \(LineStream.maximumDescriptors) descriptors at most"
    case .line(.ended), .line(.failed): return
    }
    // One that does not take it has no use for it.
    try? lines.send(ControlAnswer.error(reason).line, until: .now())
    log.debug("control socket: refused: \(reason)", metadata: fields("control_refused"))
  }
}
