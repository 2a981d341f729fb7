internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import Logging
internal import SOCKS

/// Tells what becomes of an exposure, and follows an upstream's name.
final class ExposureMonitor {
  private let service: Endpoint
  private let chain: UpstreamChain
  private let upstream: Upstream
  private let log: Logger
  /// Nil where the upstream is not given by its name.
  private let addresses: AddressMonitor?
  private var hasListened = false
  /// What is wrong now, as it was told.
  private var toldTrouble: String?

  /// Why the upstream has not listened even once.
  private(set) var refusal: CommandFailure?

  init(
    of service: Endpoint, _ chain: UpstreamChain, _ upstream: Upstream, _ supervisor: Supervisor,
    timeout: Timeout, log: Logger
  ) throws(Errno) {
    self.service = service
    self.chain = chain
    self.upstream = upstream
    self.log = log
    addresses = try AddressMonitor(chain, upstream, mark: nil, timeout: timeout)
    if let addresses {
      try supervisor.watch(addresses.wakeDescriptor) { [weak self] in self?.handleAddress() }
    }
    supervisor.onEvent = { [weak self] event in self?.handle(event) }
  }

  private func handle(_ event: Event) {
    switch event {
    case .exposure(.listening(let place)): handleListening(at: place)
    case .exposure(.failed(let outcome)): handleFailure(outcome)
    case .exposure(.arrived(let peer)):
      log.info("connection from \(name(of: peer))", metadata: metadata("arrived", peer))
    case .exposure(.turnedAway(let peer)):
      log.info(
        "connection from \(name(of: peer)), who may not come: closed",
        metadata: metadata("turned_away", peer))
    case .failures(let failure, let count, _, _): handleFailure(failure, count: count)
    case .loop, .pipeliningDoubted, .datagramsRefused, .acceptPaused, .memberDown, .memberUp,
      .drained:
      break
    }
  }

  private func handleListening(at place: Endpoint) {
    let verb = toldTrouble == nil ? "is reached" : "is reached again"
    (hasListened, toldTrouble) = (true, nil)
    log.notice(
      "\(service) \(verb) at \(place), through \(chain)",
      metadata: [
        "event": "listening", "service": .string("\(service)"), "address": .string("\(place)"),
        "upstream": .string("\(chain)"),
      ])
  }

  private func handleFailure(_ outcome: UpstreamProbe.Outcome) {
    let trouble = CommandFailure(listening: outcome, chain, at: upstream.place)
    guard hasListened else {
      refusal = trouble
      return
    }
    if case .cannotConnect = outcome {
      addresses?.handleFailure(.connectFailed, known: [upstream.place.exemption].compactMap(\.self))
    }
    guard trouble.message != toldTrouble else { return }
    toldTrouble = trouble.message
    log.warning(
      "\(service) is not reached: \(trouble.message) (asking again)",
      metadata: ["event": "not_listening"])
  }

  /// - Parameter failure: of a connection that somebody has made from outside.
  private func handleFailure(_ failure: Failure, count: UInt64) {
    let what: String
    switch failure {
    case .targetRefused: what = "refuses connections"
    case .targetUnreachable: what = "cannot be reached"
    case .targetTimeout: what = "does not answer"
    case .targetFailed: what = "cannot be connected to"
    default: return
    }
    log.warning(
      "\(service) \(what): closing what comes for it; is the service running?",
      metadata: [
        "event": "service_failed", "failure": .string(failure.name),
        "count": .stringConvertible(count),
      ])
  }

  private func handleAddress() {
    guard let answer = addresses?.handleAnswer() else { return }
    upstream.move(to: answer.place)
    log.notice(
      "\(answer.place.name(in: chain.first)): asking there",
      metadata: ["event": "upstream_moved", "place": .string("\(answer.place)")])
  }

  private func name(of peer: Endpoint?) -> String { peer.map { "\($0)" } ?? "somebody" }

  private func metadata(_ event: String, _ peer: Endpoint?) -> Logger.Metadata {
    ["event": .string(event), "peer": .string(name(of: peer))]
  }
}

extension CommandFailure {
  /// Why the upstream does not listen for us.
  fileprivate init(
    listening outcome: UpstreamProbe.Outcome, _ chain: UpstreamChain, at place: Upstream.Place
  ) {
    if let failure = UpstreamSetup.obstacle(outcome, chain, at: place) {
      self = failure
      return
    }
    let last = chain.name(ofHop: chain.hops.count - 1, at: place)
    let reason =
      switch outcome {
      case .replied(let code): "\(code) (reply code \(code.rawValue))"
      case .failed(_, isTimeout: true): "it does not answer"
      case .failed, .cannotConnect, .stuck: "it closed the connection without a reply"
      }
    self.init(
      "\(last) does not listen for us: \(reason); does it have BIND, and may you use it?",
      .unavailable)
  }
}
