internal import Configuration
internal import DataPlane
internal import Logging
internal import RedirectPolicy
internal import SOCKS

// An upstream without UDP ASSOCIATE: what becomes of the datagrams that would be captured.

extension Configuration {
  /// Whether UDP is to be captured if the upstream relays it.
  var wantsDatagrams: Bool {
    switch uncaptured.udp {
    case .proxy, nil: true
    case .bypass, .reject: false
    }
  }

  /// What becomes of datagrams, for people.
  fileprivate var datagramsWithoutRelay: String {
    let queries =
      switch dns {
      case .tcp, nil: "DNS goes over TCP"
      case .udp: "DNS is lost, as --dns udp wants it to go no other way"
      case .off: "DNS is no exception (--dns off)"
      }
    return wantsDatagrams
      ? "\(queries), all other UDP is rejected, and QUIC gives way to TCP" : queries
  }
}

extension Logger {
  /// Tells that the upstream relays no datagrams.
  func tell(
    _ refusal: DatagramRefusal, _ configuration: Configuration, level: Level = .warning
  ) {
    tellRefusal(by: configuration.upstreams, refusal, configuration, level: level)
  }

  /// The same of any upstream.
  /// - Parameter refusal: nil where it was another process that met with it.
  func tellRefusal(
    by upstreams: UpstreamSelection, _ refusal: DatagramRefusal?, _ configuration: Configuration,
    level: Level
  ) {
    var fields: Metadata = ["event": "datagrams_refused"]
    if let refusal { fields["failure"] = .string(refusal.failure.name) }
    let reason = upstreams.obstacleToDatagrams ?? refusal.map(upstreams.reason)
    log(
      level: level,
      "\(upstreams) relays no datagrams\(reason.map { " (\($0))" } ?? ""): \(configuration.datagramsWithoutRelay)",
      metadata: fields)
  }
}

extension UpstreamSelection {
  /// Why the last of them that was asked relays none, with the hop of a chain that is to blame.
  fileprivate func reason(of refusal: DatagramRefusal) -> String {
    let chain = members[refusal.part.member]
    return chain.isChain
      ? "\(chain.name(ofHop: refusal.part.hop)): \(refusal.failure)" : "\(refusal.failure)"
  }
}

extension RedirectPolicy {
  /// Rejects what was to be captured, except DNS, which can go over TCP.
  mutating func refuseDatagrams() {
    if uncaptured.udp == nil { uncaptured.udp = .reject }
  }
}
