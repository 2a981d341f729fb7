internal import Addressing
internal import Configuration
internal import DataPlane
internal import Logging
internal import SOCKS

/// Turns what happens into log lines: one per problem, with what to do about it.
struct Reporter {
  private let log: Logger
  /// As people call it, where nothing else is known: the URL without the password.
  private let upstream: String
  /// Nil for what has no group of upstreams.
  private let register: UpstreamRegister?
  private var toldCulprits: Set<String> = []
  private var isToldPaused = false

  init(log: Logger, upstream: String) {
    self.log = log
    self.upstream = upstream
    register = nil
  }

  /// For upstreams that stay.
  init(log: Logger, upstreams: UpstreamSelection) {
    self.init(log: log, UpstreamRegister(UpstreamRoster(upstreams)))
  }

  init(log: Logger, _ register: UpstreamRegister) {
    self.log = log
    upstream = "\(register.roster.selection)"
    self.register = register
  }

  /// The upstream that a part belongs to.
  private func name(of member: Int) -> String {
    register?.roster.chain(in: member).map { "\($0)" } ?? upstream
  }

  /// A hop of it.
  private func name(of part: UpstreamPart) -> String {
    guard let chain = register?.roster.chain(in: part.member),
      chain.hops.indices.contains(part.hop)
    else { return upstream }
    return chain.name(ofHop: part.hop)
  }

  mutating func report(_ event: Event) {
    switch event {
    case .failures(let failure, let count, let destination, let part):
      report(failure, count: count, destination: destination, part)
    case .loop(let cause, let destination):
      report(cause, destination)
    case .pipeliningDoubted(let member):
      log.tellPipelining(false, of: name(of: member))
    case .acceptPaused(let error):
      guard !isToldPaused else { return }
      isToldPaused = true
      let reason = error.map { "the kernel gives no more (\($0))" } ?? "the budget is used up"
      log.warning(
        "descriptors: \(reason), new connections wait; raise the limit (ulimit -n, LimitNOFILE=)",
        metadata: ["event": "accept_paused"])
    // What changes with it is told by whoever changes the rules.
    case .datagramsRefused(let refusal):
      let server = name(of: refusal.part)
      log.debug(
        "\(server) refuses to relay datagrams (\(refusal.failure.name))",
        metadata: ["event": "refusal", "failure": .string(refusal.failure.name)])
    case .memberDown(let member, let failure, let othersLive):
      log.warning(
        """
        \(failure.explanation(upstream: name(of: member))): \(othersLive
          ? "new connections go through the others until it answers again"
          : "no upstream is left, each is tried all the same")
        """,
        metadata: [
          "event": "member_down", "upstream": .string(name(of: member)),
          "failure": .string(failure.name),
        ])
    case .memberUp(let member):
      log.notice(
        "\(name(of: member)) answers again: new connections go there, too",
        metadata: ["event": "member_up", "upstream": .string(name(of: member))])
    // Told by whoever has asked for it (`ExposureMonitor`).
    case .exposure: break
    case .drained: break
    }
  }

  private func report(
    _ failure: Failure, count: UInt64, destination: Endpoint?, _ part: UpstreamPart
  ) {
    let what = failure.explanation(upstream: name(of: part))
    let which = destination.map { count == 1 ? ": \($0)" : ": \($0) and \(count - 1) more" } ?? ""
    log.log(
      level: failure.concernsUpstream ? .warning : .debug, "\(what)\(which)",
      metadata: [
        "event": "failure", "failure": .string(failure.name), "count": .stringConvertible(count),
      ])
  }

  private mutating func report(_ cause: LoopCause, _ destination: SocketAddress) {
    let what: String
    let culprit: String
    switch cause {
    case .connectionToListener:
      what = "somebody connects to the listener \(destination) itself; such connections are reset"
      culprit = "direct connection"
    case .connectionToUpstream:
      what =
        "connections to the upstream \(destination) are redirected to Sluice by rules that are not "
        + "its own; look for them with: nft list ruleset"
      culprit = "foreign rules"
    case .upstreamProgram(let name, let processID):
      what =
        "\(name) (pid \(processID)) is the upstream and runs on this host, so that its own "
        + "connections (to \(destination)) are captured and sent back to it; exempt where it "
        + "connects to with --bypass, or run it on another host"
      culprit = name
    case .ourselves:
      what =
        "Sluice's own connections (to \(destination)) are redirected to it by rules that are not "
        + "its own; look for them with: nft list ruleset"
      culprit = "foreign rules"
    }
    guard toldCulprits.insert(culprit).inserted else { return }
    log.warning(
      "loop: \(what)",
      metadata: [
        "event": "loop", "culprit": .string(culprit), "destination": .string("\(destination)"),
      ])
  }

  // MARK: Numbers

  func status(_ snapshot: Snapshot) {
    log.notice(
      "\(snapshot.liveSessions) flows open\(openAssociations(snapshot)), \(totals(snapshot))",
      metadata: fields(snapshot, event: "status"))
  }

  func summary(_ snapshot: Snapshot) {
    log.notice("done: \(totals(snapshot))", metadata: fields(snapshot, event: "summary"))
  }

  private func openAssociations(_ snapshot: Snapshot) -> String {
    guard let ways = snapshot.datagrams else { return "" }
    let dns =
      ways.dns == .ordinary
      ? "" : ", DNS by \(ways.carriesQueriesOverStream ? "TCP" : "UDP")"
    return
      ", \(snapshot.liveAssociations) UDP clients (the upstream \(ways.ability.explanation)\(dns))"
  }

  private func totals(_ snapshot: Snapshot) -> String {
    let reset = Failure.allCases.filter(\.isReset).reduce(0) { $0 + snapshot[$1] }
    let failed = Failure.allCases.filter { $0.isTrouble && snapshot[$0] > 0 }
      .map { "\(snapshot[$0]) \($0.name)" }.joined(separator: ", ")
    let rejected = snapshot[Failure.rejectedByRule]
    let queries = snapshot[.queriesCarried]
    let retried = snapshot[.handshakesRetried]
    return
      "\(snapshot[.sessionsOpened]) flows, \(byteCount(snapshot[.bytesUpstream])) sent, "
      + "\(byteCount(snapshot[.bytesDownstream])) received"
      + (retried > 0 ? ", \(retried) handshakes begun anew with another upstream" : "")
      + (reset > 0 ? ", \(reset) reset by a peer" : "")
      + (rejected > 0 ? ", \(rejected) rejected by rules" : "")
      + (queries > 0 ? ", \(queries) DNS queries by TCP" : "")
      + ", \(snapshot[.sessionsFailed]) failed" + (failed.isEmpty ? "" : " (\(failed))")
      + datagramTotals(snapshot)
  }

  /// Empty where datagrams are neither captured nor served.
  private func datagramTotals(_ snapshot: Snapshot) -> String {
    guard snapshot.hasDatagrams else { return "" }
    let dropped = DatagramDrop.allCases.filter { snapshot[$0] > 0 }
      .map { "\(snapshot[$0]) \($0.name)" }.joined(separator: ", ")
    return
      "; \(snapshot[.datagramsUpstream]) datagrams sent, "
      + "\(snapshot[.datagramsDownstream]) received"
      + (dropped.isEmpty ? "" : ", dropped: \(dropped)")
  }

  private func fields(_ snapshot: Snapshot, event: String) -> Logger.Metadata {
    var failures: Logger.Metadata = [:]
    for failure in Failure.allCases where snapshot[failure] > 0 {
      failures[failure.name] = .stringConvertible(snapshot[failure])
    }
    var fields: Logger.Metadata = [
      "event": .string(event),
      "live_sessions": .stringConvertible(snapshot.liveSessions),
      "sessions_opened": .stringConvertible(snapshot[.sessionsOpened]),
      "sessions_failed": .stringConvertible(snapshot[.sessionsFailed]),
      "handshakes_retried": .stringConvertible(snapshot[.handshakesRetried]),
      "pooled_used": .stringConvertible(snapshot[.pooledUsed]),
      "pooled_dead": .stringConvertible(snapshot[.pooledDead]),
      "bytes_upstream": .stringConvertible(snapshot[.bytesUpstream]),
      "bytes_downstream": .stringConvertible(snapshot[.bytesDownstream]),
      "queries_carried": .stringConvertible(snapshot[.queriesCarried]),
      "queries_answered": .stringConvertible(snapshot[.queriesAnswered]),
      "queries_truncated": .stringConvertible(snapshot[.queriesTruncated]),
      "queries_failed": .stringConvertible(snapshot[.queriesFailed]),
      "accept_pauses": .stringConvertible(snapshot[.acceptPauses]),
      "failures": .dictionary(failures),
    ]
    var dropped: Logger.Metadata = [:]
    for drop in DatagramDrop.allCases where snapshot[drop] > 0 {
      dropped[drop.name] = .stringConvertible(snapshot[drop])
    }
    fields["associations"] = .stringConvertible(snapshot.liveAssociations)
    fields["associations_opened"] = .stringConvertible(snapshot[.associationsOpened])
    fields["datagrams_upstream"] = .stringConvertible(snapshot[.datagramsUpstream])
    fields["datagrams_downstream"] = .stringConvertible(snapshot[.datagramsDownstream])
    fields["datagram_bytes_upstream"] = .stringConvertible(snapshot[.datagramBytesUpstream])
    fields["datagram_bytes_downstream"] = .stringConvertible(snapshot[.datagramBytesDownstream])
    fields["datagrams_dropped"] = .dictionary(dropped)
    guard let ways = snapshot.datagrams else {
      fields["udp"] = "off"
      fields["dns"] = "off"
      return fields
    }
    fields["udp"] = .string(ways.ability.word)
    fields["dns"] = .string(
      ways.dns == .ordinary ? "off" : ways.carriesQueriesOverStream ? "tcp" : "udp")
    return fields
  }
}

/// With a binary unit and one digit: "12.3 MiB".
func byteCount(_ count: UInt64) -> String {
  var value = Double(count)
  for unit in ["B", "KiB", "MiB", "GiB"] {
    if value < 1024 {
      return unit == "B" ? "\(count) B" : "\((value * 10).rounded() / 10) \(unit)"
    }
    value /= 1024
  }
  return "\((value * 10).rounded() / 10) TiB"
}

extension Snapshot {
  /// Datagrams are captured, or clients of the embedded server have sent some.
  fileprivate var hasDatagrams: Bool { datagrams != nil || self[.associationsOpened] > 0 }
}

extension Upstream.DatagramAbility {
  /// For people, behind "the upstream".
  fileprivate var explanation: String {
    switch self {
    case .unknown: "has not been asked"
    case .relays: "relays them"
    case .refuses: "refuses them"
    }
  }

  /// For programs.
  var word: String {
    switch self {
    case .unknown: "unknown"
    case .relays: "relayed"
    case .refuses: "refused"
    }
  }
}

extension Failure {
  /// For people: what happened, and where it helps what to do.
  fileprivate func explanation(upstream: String) -> String {
    switch self {
    case .connectRefused: "\(upstream) refuses connections"
    case .connectUnreachable: "\(upstream) cannot be reached"
    case .connectTimeout: "\(upstream) does not answer connections"
    case .connectFailed: "a connection to \(upstream) failed"
    case .noLocalPort:
      "this host has no address or port left to reach \(upstream) from: ports rest for a minute after "
        + "each connection, unless sysctl net.ipv4.tcp_tw_reuse is 1"
    case .credentialsNotSupported:
      "what a flow makes of the upstream's user name or password cannot be sent: it is longer than "
        + "255 bytes, or a user name for HTTP with a colon"
    case .handshakeTimeout: "\(upstream) did not answer a request in time"
    case .noAcceptableMethod: "\(upstream) accepts none of our authentication methods"
    case .authenticationRejected: "\(upstream) rejects the user name or password"
    case .protocolViolation: "\(upstream) does not speak the protocol of its URL"
    case .securityFailed:
      "GSSAPI fails with \(upstream): klist shows whether there is a ticket, kinit gets one"
    case .securityAborted:
      "\(upstream) gave up the GSSAPI negotiation: it does not accept our ticket"
    case .protectionNotAcceptable: "\(upstream) wants another GSSAPI protection level than ours"
    case .closedInMethodSelection: "\(upstream) closed the connection after the greeting"
    case .closedInAuthentication: "\(upstream) closed the connection during authentication"
    case .closedInReply: "\(upstream) closed the connection without a reply"
    case .replyGeneralFailure: "the upstream reports a general failure"
    case .replyNotAllowed: "the upstream's rules forbid the target"
    case .replyNetworkUnreachable: "the upstream reports the network unreachable"
    case .replyHostUnreachable: "the upstream reports the host unreachable"
    case .replyConnectionRefused: "the upstream reports the connection refused"
    case .replyTTLExpired: "the upstream reports a time-out"
    case .replyCommandNotSupported: "\(upstream) does not support CONNECT"
    case .replyAddressTypeNotSupported: "\(upstream) does not support this kind of address"
    case .replyOther: "the upstream replied with an unknown code"
    case .hopRefused: "\(upstream) does not connect to the next hop"
    case .clientRejected: "a client of the embedded server was rejected"
    case .clientNotAllowed: "somebody connected who is none of the clients of --allow-client"
    case .destinationNotAllowed: "a client may not reach what it asked for"
    case .nameNotResolved: "a name could not be resolved"
    case .peerTimeout: "nobody has come in time whom a client had asked to wait for"
    case .targetRefused: "the target refuses connections"
    case .targetUnreachable: "the target cannot be reached"
    case .targetTimeout: "the target does not answer"
    case .targetFailed: "a connection to the target failed"
    case .resetByDownstream: "the application reset the connection"
    case .resetByUpstream: "the upstream reset the connection"
    case .idleTimeout: "a flow was idle for too long"
    case .halfCloseTimeout: "a half-closed flow was idle for too long"
    case .endedByShutdown: "a flow was cut at the end"
    case .endedByRequest: "a flow was ended as asked"
    case .rejectedByRule: "a flow was rejected by a rule"
    case .queryMalformed: "a DNS query cannot be read"
    case .queryRefused: "there were too many DNS queries at once"
    case .queryUnanswered: "a DNS resolver does not answer"
    case .resolverClosed: "a DNS resolver closed the connection without an answer"
    case .noOriginalDestination: "a connection has no original destination"
    case .loop: "a flow was going round"
    case .resourcesExhausted: "descriptors or memory ran out for a flow"
    }
  }
}
