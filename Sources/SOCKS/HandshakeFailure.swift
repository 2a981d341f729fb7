/// Why a server did not connect us.
package enum HandshakeFailure: Error, Hashable, Sendable {
  /// It answered the request with this code, which is not `succeeded`.
  case refused(ReplyCode)
  /// An HTTP proxy answered CONNECT with this status, which is not 2xx.
  case refusedByHTTP(HTTPStatus)
  /// A SOCKS4 server answered with this code, which is not `granted`.
  case refusedBySOCKS4(SOCKS4ReplyCode)
  /// It was not asked: its protocol cannot name the destination.
  case destinationNotSupported
  /// It was not asked: its protocol cannot carry what the flow makes of our credentials.
  case credentialsNotSupported(CredentialsError)
  /// It was not asked: its protocol has no datagrams.
  case datagramsNotSupported
  /// It was not asked: its protocol has no BIND.
  case bindNotSupported
  /// It does not accept our credentials; `status` is not 0 (RFC 1929, section 2).
  case authenticationRejected(status: UInt8)
  /// It takes none of the methods that we offered.
  case noAcceptableMethod
  /// GSSAPI does not let us prove who we are, or does not trust what the server says.
  case securityFailed(SecurityFailure)
  /// The server gave up the GSSAPI negotiation (RFC 1961, section 3).
  case securityAborted
  /// The server wants this protection level (RFC 1961, section 4), which is none of ours.
  case protectionNotAcceptable(UInt8)
  case protocolViolation(Violation)
  /// The connection ended while this was expected.
  case closed(HandshakePhase)

  /// As metrics show it.
  package var name: String {
    switch self {
    case .refused(let code): "reply_\(code.name)"
    case .refusedByHTTP: "http_status"
    case .refusedBySOCKS4: "socks4_reply"
    case .destinationNotSupported: "destination_not_supported"
    case .credentialsNotSupported: "credentials_not_supported"
    case .datagramsNotSupported: "datagrams_not_supported"
    case .bindNotSupported: "bind_not_supported"
    case .authenticationRejected: "authentication_rejected"
    case .noAcceptableMethod: "no_acceptable_method"
    case .securityFailed: "gssapi_failed"
    case .securityAborted: "gssapi_aborted"
    case .protectionNotAcceptable: "gssapi_protection"
    case .protocolViolation(let violation): violation.name
    case .closed(.methodSelection): "closed_in_method_selection"
    case .closed(.authentication): "closed_in_authentication"
    case .closed(.reply): "closed_in_reply"
    case .closed(.answer): "closed_without_answer"
    }
  }

  /// What the server says of the destination, in the words of SOCKS5; nil where it did not get as far
  /// as that.
  package var replyCode: ReplyCode? {
    switch self {
    case .refused(let code): code
    case .refusedByHTTP(let status): status.replyCode
    case .refusedBySOCKS4(let code): code.replyCode
    case .destinationNotSupported: .addressTypeNotSupported
    case .datagramsNotSupported, .bindNotSupported: .commandNotSupported
    case .credentialsNotSupported, .authenticationRejected, .noAcceptableMethod, .securityFailed,
      .securityAborted, .protectionNotAcceptable, .protocolViolation, .closed:
      nil
    }
  }
}

/// What a client is waiting for.
package enum HandshakePhase: Hashable, Sendable {
  case methodSelection
  case authentication
  case reply
  /// Of a protocol with one request: nothing has proved before that the server speaks it.
  case answer
}

/// What a peer sent against its protocol: RFC 1928 and RFC 1929 unless said otherwise.
package enum Violation: Error, Hashable, Sendable {
  /// The first byte of a greeting, method selection, request or reply is not 5.
  case wrongVersion(UInt8)
  /// The first byte of the user and password exchange is not 1.
  case wrongAuthenticationVersion(UInt8)
  /// The server selected a method that we did not offer.
  case methodNeverOffered(Method)
  case unknownAddressType(UInt8)
  /// The request names a host by a text that cannot be one: empty, not UTF-8, control characters.
  case invalidName
  /// The server sent more before we had answered what it sent first.
  case trailingBytes
  /// The server's first bytes are no status line of HTTP/1 (RFC 9112, section 4).
  case notHTTP(UInt8)
  /// A response has more bytes than `TunnelHandshake.maximumResponseBytes` before its empty line.
  case responseTooLong
  /// The first byte of a SOCKS4 server's reply is not 0.
  case wrongReplyVersion(UInt8)
  /// The user ID of a SOCKS4 request does not end within `UserID.maximumBytes`.
  case userIDTooLong
  /// The first byte of a GSSAPI message is not 1 (RFC 1961, section 3.4).
  case wrongSecurityVersion(UInt8)
  /// A GSSAPI message of this type has come out of its turn, or there is no such type.
  case unexpectedSecurityMessage(UInt8)
  /// The protection level that the server selects has not one byte (RFC 1961, section 4.2).
  case malformedProtectionLevel
  /// A message could be read by anybody on the way, which was not agreed on.
  case unprotectedMessage

  /// As metrics show it.
  package var name: String {
    switch self {
    case .wrongVersion: "wrong_version"
    case .wrongAuthenticationVersion: "wrong_authentication_version"
    case .methodNeverOffered: "method_never_offered"
    case .unknownAddressType: "unknown_address_type"
    case .invalidName: "invalid_name"
    case .trailingBytes: "trailing_bytes"
    case .notHTTP: "not_http"
    case .responseTooLong: "response_too_long"
    case .wrongReplyVersion: "wrong_reply_version"
    case .userIDTooLong: "user_id_too_long"
    case .wrongSecurityVersion: "wrong_security_version"
    case .unexpectedSecurityMessage: "unexpected_security_message"
    case .malformedProtectionLevel: "malformed_protection_level"
    case .unprotectedMessage: "unprotected_message"
    }
  }

  /// What the peer is not, if it is a server.
  fileprivate var server: String {
    switch self {
    case .wrongVersion, .wrongAuthenticationVersion, .methodNeverOffered, .unknownAddressType,
      .invalidName, .trailingBytes, .wrongSecurityVersion, .unexpectedSecurityMessage,
      .malformedProtectionLevel, .unprotectedMessage:
      "a SOCKS5 server"
    case .notHTTP, .responseTooLong: "an HTTP proxy"
    case .wrongReplyVersion, .userIDTooLong: "a SOCKS4 server"
    }
  }
}

extension HandshakeFailure: CustomStringConvertible {
  package var description: String {
    switch self {
    case .refused(let code): "the server refused: \(code)"
    case .refusedByHTTP(let status) where status.wantsCredentials:
      "the proxy rejected the user name or password, or wants some (\(status))"
    case .refusedByHTTP(let status) where status.refusesTunnels:
      "the server does not take CONNECT (\(status)): is it an HTTP proxy?"
    case .refusedByHTTP(let status): "the proxy refused (\(status))"
    case .refusedBySOCKS4(let code): "the server refused: \(code)"
    case .destinationNotSupported: "this kind of upstream has no such destinations"
    case .credentialsNotSupported(let error): "this flow's credentials cannot be sent: \(error)"
    case .datagramsNotSupported: "this kind of upstream has no UDP"
    case .bindNotSupported: "this kind of upstream has no BIND"
    case .authenticationRejected(let status):
      "the server rejected the user name or password (status \(status))"
    case .noAcceptableMethod: "the server accepts none of the offered authentication methods"
    case .securityFailed(let failure): "GSSAPI: \(failure)"
    case .securityAborted:
      "the server gave up the GSSAPI negotiation: it does not accept our ticket"
    case .protectionNotAcceptable(let level):
      "the server wants GSSAPI protection level \(level), which is not among ours"
    case .protocolViolation(let violation): "not \(violation.server): \(violation)"
    case .closed(.methodSelection): "the server closed the connection after the greeting"
    case .closed(.authentication): "the server closed the connection during authentication"
    case .closed(.reply), .closed(.answer): "the server closed the connection without a reply"
    }
  }
}

extension Violation: CustomStringConvertible {
  package var description: String {
    switch self {
    case .wrongVersion(let version): "version \(version) instead of 5"
    case .wrongAuthenticationVersion(let version):
      "authentication version \(version) instead of 1"
    case .methodNeverOffered(let method): "method \(method.rawValue), which was never offered"
    case .unknownAddressType(let type): "unknown address type \(type)"
    case .invalidName: "a host name that is empty or has bytes that no name can have"
    case .trailingBytes: "bytes that nothing had asked for yet"
    case .notHTTP(let byte): "byte \(byte) in place of a status line"
    case .wrongReplyVersion(let version): "version \(version) of a reply instead of 0"
    case .userIDTooLong: "a user ID without an end within \(UserID.maximumBytes) bytes"
    case .wrongSecurityVersion(let version): "version \(version) of a GSSAPI message instead of 1"
    case .unexpectedSecurityMessage(let type): "an unexpected GSSAPI message of type \(type)"
    case .malformedProtectionLevel: "a protection level that is not one byte"
    case .unprotectedMessage: "a message that is not encrypted though that was agreed on"
    case .responseTooLong:
      "a response without an end within \(TunnelHandshake.maximumResponseBytes) bytes"
    }
  }
}
