// What a flow's failure on the way through one member of a group says of that member, and whether another
// one may do better.

extension Failure {
  enum Blame {
    /// It is down: no connection, or no SOCKS. No flow goes there until it answers again.
    case member
    /// It may be: it is asked at once, and stays where it is until then.
    case doubt
    /// It lives and does not carry this flow: by its rules or abilities, for a reason that it does not
    /// tell, or since we have no port left for its address. Another may.
    case flow
    /// The target, the application or we ourselves are the reason, which are the same for every member.
    case nobody
  }

  /// Whether the upstream does not carry the flow, as far as one can know: none of the flow's bytes went on.
  var isRefusal: Bool { blame == .flow }

  var blame: Blame {
    switch self {
    case .connectRefused, .connectUnreachable, .connectTimeout, .closedInMethodSelection,
      .noAcceptableMethod, .protocolViolation:
      .member
    case .connectFailed, .handshakeTimeout, .closedInAuthentication, .closedInReply,
      .authenticationRejected, .securityFailed, .securityAborted, .protectionNotAcceptable,
      .hopRefused:
      .doubt
    case .replyGeneralFailure, .replyNotAllowed, .replyCommandNotSupported,
      .replyAddressTypeNotSupported, .replyOther, .credentialsNotSupported, .noLocalPort:
      .flow
    case .replyNetworkUnreachable, .replyHostUnreachable, .replyConnectionRefused,
      .replyTTLExpired, .clientRejected, .clientNotAllowed, .destinationNotAllowed,
      .nameNotResolved, .peerTimeout, .targetRefused, .targetUnreachable, .targetTimeout,
      .targetFailed, .resetByDownstream, .resetByUpstream, .idleTimeout, .halfCloseTimeout,
      .endedByShutdown, .endedByRequest, .rejectedByRule, .queryMalformed, .queryRefused,
      .queryUnanswered,
      .resolverClosed,
      .noOriginalDestination, .loop, .resourcesExhausted:
      .nobody
    }
  }
}
