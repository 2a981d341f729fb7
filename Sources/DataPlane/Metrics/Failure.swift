internal import SOCKS

/// Why a session did not end by both sides' closing; counted by `name`.
package enum Failure: Int, CaseIterable, Sendable {
  // The way to the upstream.
  case connectRefused, connectUnreachable, connectTimeout, connectFailed
  /// All ports that this host connects from lead there already, or rest (TIME_WAIT); or it has no address of
  /// the upstream's family.
  case noLocalPort
  // The SOCKS handshake with the upstream.
  case credentialsNotSupported
  case handshakeTimeout, noAcceptableMethod, authenticationRejected, protocolViolation
  case securityFailed, securityAborted, protectionNotAcceptable
  case closedInMethodSelection, closedInAuthentication, closedInReply
  case replyGeneralFailure, replyNotAllowed, replyNetworkUnreachable, replyHostUnreachable
  case replyConnectionRefused, replyTTLExpired, replyCommandNotSupported
  case replyAddressTypeNotSupported, replyOther
  /// One hop of a chain does not connect us to the next.
  case hopRefused
  // The embedded server: its client, and the way to the target.
  case clientRejected, clientNotAllowed, destinationNotAllowed, nameNotResolved, peerTimeout
  case targetRefused, targetUnreachable, targetTimeout, targetFailed
  // The relay.
  case resetByDownstream, resetByUpstream, idleTimeout, halfCloseTimeout, endedByShutdown
  case endedByRequest
  /// A rule of the user's has it.
  case rejectedByRule
  // DNS by TCP.
  case queryMalformed, queryRefused, queryUnanswered, resolverClosed
  // Ourselves.
  case noOriginalDestination, loop, resourcesExhausted

  /// As metrics and the status show it.
  package var name: String {
    switch self {
    case .connectRefused: "connect_refused"
    case .connectUnreachable: "connect_unreachable"
    case .connectTimeout: "connect_timeout"
    case .connectFailed: "connect_failed"
    case .noLocalPort: "no_local_port"
    case .credentialsNotSupported: "credentials_not_supported"
    case .handshakeTimeout: "handshake_timeout"
    case .noAcceptableMethod: "no_acceptable_method"
    case .authenticationRejected: "authentication_rejected"
    case .protocolViolation: "protocol_violation"
    case .securityFailed: "gssapi_failed"
    case .securityAborted: "gssapi_aborted"
    case .protectionNotAcceptable: "gssapi_protection"
    case .closedInMethodSelection: "closed_in_method_selection"
    case .closedInAuthentication: "closed_in_authentication"
    case .closedInReply: "closed_in_reply"
    case .replyGeneralFailure: "reply_general_failure"
    case .replyNotAllowed: "reply_not_allowed"
    case .replyNetworkUnreachable: "reply_network_unreachable"
    case .replyHostUnreachable: "reply_host_unreachable"
    case .replyConnectionRefused: "reply_connection_refused"
    case .replyTTLExpired: "reply_ttl_expired"
    case .replyCommandNotSupported: "reply_command_not_supported"
    case .replyAddressTypeNotSupported: "reply_address_type_not_supported"
    case .replyOther: "reply_other"
    case .hopRefused: "hop_refused"
    case .clientRejected: "client_rejected"
    case .clientNotAllowed: "client_not_allowed"
    case .destinationNotAllowed: "destination_not_allowed"
    case .nameNotResolved: "name_not_resolved"
    case .peerTimeout: "peer_timeout"
    case .targetRefused: "target_refused"
    case .targetUnreachable: "target_unreachable"
    case .targetTimeout: "target_timeout"
    case .targetFailed: "target_failed"
    case .resetByDownstream: "reset_by_downstream"
    case .resetByUpstream: "reset_by_upstream"
    case .idleTimeout: "idle_timeout"
    case .halfCloseTimeout: "half_close_timeout"
    case .endedByShutdown: "ended_by_shutdown"
    case .endedByRequest: "ended_by_request"
    case .rejectedByRule: "rejected_by_rule"
    case .queryMalformed: "query_malformed"
    case .queryRefused: "query_refused"
    case .queryUnanswered: "query_unanswered"
    case .resolverClosed: "resolver_closed"
    case .noOriginalDestination: "no_original_destination"
    case .loop: "loop"
    case .resourcesExhausted: "resources_exhausted"
    }
  }

  /// A peer's reset is passed on and counted, but the session has done what it was for.
  package var isReset: Bool { self == .resetByDownstream || self == .resetByUpstream }

  /// Whether nothing went as it should: all but a peer's reset, and what somebody wants to be refused.
  package var isTrouble: Bool { !isReset && self != .rejectedByRule }

  /// Whether it speaks of the upstream itself, so that a person should hear of it.
  package var concernsUpstream: Bool {
    switch self {
    case .connectRefused, .connectUnreachable, .connectTimeout, .connectFailed, .noLocalPort,
      .handshakeTimeout, .noAcceptableMethod, .authenticationRejected, .protocolViolation,
      .closedInMethodSelection, .closedInAuthentication, .closedInReply,
      .securityFailed, .securityAborted, .protectionNotAcceptable,
      .replyCommandNotSupported, .replyAddressTypeNotSupported, .credentialsNotSupported,
      .hopRefused:
      true
    case .replyGeneralFailure, .replyNotAllowed, .replyNetworkUnreachable, .replyHostUnreachable,
      .replyConnectionRefused, .replyTTLExpired, .replyOther, .clientRejected, .clientNotAllowed,
      .destinationNotAllowed, .nameNotResolved, .peerTimeout,
      .targetRefused, .targetUnreachable, .targetTimeout, .targetFailed,
      .resetByDownstream, .resetByUpstream, .idleTimeout, .halfCloseTimeout, .endedByShutdown,
      .endedByRequest, .rejectedByRule,
      .queryMalformed, .queryRefused, .queryUnanswered, .resolverClosed,
      .noOriginalDestination, .loop, .resourcesExhausted:
      false
    }
  }

  /// - Parameter negotiation: the one that failed.
  init(_ failure: HandshakeFailure, of negotiation: Negotiation) {
    self = failure.replyCode != nil && !negotiation.isAtLastHop ? .hopRefused : Failure(failure)
  }

  init(_ failure: HandshakeFailure) {
    switch failure {
    case .refused(let code): self.init(code)
    case .refusedByHTTP(let status):
      if let code = status.replyCode {
        self.init(code)
      } else {
        self =
          status.wantsCredentials
          ? .authenticationRejected
          : status.refusesTunnels ? .replyCommandNotSupported : .replyOther
      }
    case .refusedBySOCKS4(let code):
      if let code = code.replyCode { self.init(code) } else { self = .authenticationRejected }
    case .destinationNotSupported: self = .replyAddressTypeNotSupported
    case .credentialsNotSupported: self = .credentialsNotSupported
    case .datagramsNotSupported, .bindNotSupported: self = .replyCommandNotSupported
    case .authenticationRejected: self = .authenticationRejected
    case .noAcceptableMethod: self = .noAcceptableMethod
    case .securityFailed: self = .securityFailed
    case .securityAborted: self = .securityAborted
    case .protectionNotAcceptable: self = .protectionNotAcceptable
    case .protocolViolation: self = .protocolViolation
    case .closed(.methodSelection): self = .closedInMethodSelection
    case .closed(.authentication): self = .closedInAuthentication
    case .closed(.reply), .closed(.answer): self = .closedInReply
    }
  }

  private init(_ code: ReplyCode) {
    switch code {
    case .succeeded, .other: self = .replyOther
    case .generalFailure: self = .replyGeneralFailure
    case .notAllowed: self = .replyNotAllowed
    case .networkUnreachable: self = .replyNetworkUnreachable
    case .hostUnreachable: self = .replyHostUnreachable
    case .connectionRefused: self = .replyConnectionRefused
    case .ttlExpired: self = .replyTTLExpired
    case .commandNotSupported: self = .replyCommandNotSupported
    case .addressTypeNotSupported: self = .replyAddressTypeNotSupported
    }
  }
}
