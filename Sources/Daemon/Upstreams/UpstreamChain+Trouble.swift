internal import Configuration
internal import DataPlane
internal import SOCKS

// What is wrong with an upstream, for people: in a chain, with which hop.

extension UpstreamChain {
  /// The hop at an index, with the one of its addresses that is meant, where we connect to it.
  func name(ofHop index: Int, at place: Upstream.Place) -> String {
    guard isChain else { return place.name(in: first) }
    return index == 0 ? "hop 1, \(place.name(in: first))" : name(ofHop: index)
  }

  /// A hop that answers in a way that leads no further.
  struct Trouble {
    let problem: String
    let advice: String
  }

  /// Why the hop at an index, which is not the last, leads no further.
  func trouble(
    _ failure: HandshakeFailure, isTimeout: Bool, hop index: Int, at place: Upstream.Place
  ) -> Trouble {
    let (name, next) = (name(ofHop: index, at: place), name(ofHop: index + 1))
    let url = hops[index]
    if isTimeout {
      return Trouble(
        problem: "\(name) accepts connections but does not answer",
        advice: "is it \(url.serverNameWithArticle), and does it reach \(next)?")
    }
    guard failure.speaksOfDestination else {
      return Trouble(problem: "\(name) does not let us in: \(failure)", advice: failure.advice(url))
    }
    return Trouble(
      problem: "\(next) cannot be reached through \(name): \(failure)",
      advice:
        "start the \(hops[index + 1].serverName), or check its address and port, and whom the "
        + "hop before it may connect to")
  }
}

extension HandshakeFailure {
  /// Whether the server has understood us, and what it was asked for is the trouble: some close the
  /// connection in place of a reply then.
  fileprivate var speaksOfDestination: Bool {
    switch self {
    case .closed(.reply), .closed(.answer): true
    case .closed(.methodSelection), .closed(.authentication): false
    case .refused, .refusedByHTTP, .refusedBySOCKS4, .destinationNotSupported: replyCode != nil
    case .datagramsNotSupported, .bindNotSupported, .credentialsNotSupported,
      .authenticationRejected, .noAcceptableMethod, .securityFailed, .securityAborted,
      .protectionNotAcceptable,
      .protocolViolation:
      false
    }
  }
}
