import SOCKS
import Testing

struct ValueTests {
  @Test func rawValuesComeBack() {
    for rawValue in UInt8.min...UInt8.max {
      #expect(ReplyCode(rawValue: rawValue).rawValue == rawValue)
      #expect(Method(rawValue: rawValue).rawValue == rawValue)
      #expect(Command(rawValue: rawValue).rawValue == rawValue)
    }
  }

  /// RFC 1928, section 6, in its order.
  @Test func replyCodesByName() {
    let names = [
      "succeeded", "general_failure", "not_allowed", "network_unreachable", "host_unreachable",
      "connection_refused", "ttl_expired", "command_not_supported", "address_type_not_supported",
    ]
    for (rawValue, name) in names.enumerated() {
      #expect(ReplyCode(rawValue: UInt8(rawValue)).name == name)
    }
    #expect(ReplyCode(rawValue: 9).name == "other")
    #expect(ReplyCode(rawValue: 9).description == "unassigned code 9")
    let descriptions = (UInt8(0)...9).map { ReplyCode(rawValue: $0).description }
    #expect(Set(descriptions).count == 10)
  }

  @Test(arguments: [
    (HandshakeFailure.refused(.connectionRefused), "reply_connection_refused"),
    (.refused(.other(9)), "reply_other"),
    (.authenticationRejected(status: 1), "authentication_rejected"),
    (.noAcceptableMethod, "no_acceptable_method"),
    (.protocolViolation(.wrongVersion(4)), "wrong_version"),
    (.protocolViolation(.wrongAuthenticationVersion(5)), "wrong_authentication_version"),
    (.protocolViolation(.methodNeverOffered(.gssapi)), "method_never_offered"),
    (.protocolViolation(.unknownAddressType(2)), "unknown_address_type"),
    (.protocolViolation(.invalidName), "invalid_name"),
    (.protocolViolation(.trailingBytes), "trailing_bytes"),
    (.closed(.methodSelection), "closed_in_method_selection"),
    (.closed(.authentication), "closed_in_authentication"),
    (.closed(.reply), "closed_in_reply"),
    (.closed(.answer), "closed_without_answer"),
    (.refusedByHTTP(HTTPStatus(407)), "http_status"),
    (.refusedByHTTP(HTTPStatus(405)), "http_status"),
    (.refusedByHTTP(HTTPStatus(403)), "http_status"),
    (.protocolViolation(.notHTTP(0)), "not_http"),
    (.protocolViolation(.responseTooLong), "response_too_long"),
    (.refusedBySOCKS4(.rejected), "socks4_reply"),
    (.refusedBySOCKS4(.noIdentity), "socks4_reply"),
    (.refusedBySOCKS4(.otherIdentity), "socks4_reply"),
    (.protocolViolation(.wrongReplyVersion(4)), "wrong_reply_version"),
    (.destinationNotSupported, "destination_not_supported"),
    (.datagramsNotSupported, "datagrams_not_supported"),
    (.bindNotSupported, "bind_not_supported"),
    (.securityFailed(SecurityFailure("x")), "gssapi_failed"),
    (.securityAborted, "gssapi_aborted"), (.protectionNotAcceptable(3), "gssapi_protection"),
    (.protocolViolation(.wrongSecurityVersion(5)), "wrong_security_version"),
    (.protocolViolation(.unexpectedSecurityMessage(9)), "unexpected_security_message"),
    (.protocolViolation(.malformedProtectionLevel), "malformed_protection_level"),
    (.protocolViolation(.unprotectedMessage), "unprotected_message"),
  ])
  func failuresByName(_ failure: HandshakeFailure, _ name: String) {
    #expect(failure.name == name)
    #expect(!failure.description.isEmpty)
    #expect(!failure.description.contains("\n"))
  }

  @Test(
    arguments: [
      (200, .succeeded), (299, .succeeded), (403, .notAllowed), (404, .hostUnreachable),
      (500, .generalFailure), (502, .generalFailure), (503, .generalFailure), (504, .ttlExpired),
      (100, nil), (302, nil), (400, nil), (401, nil), (405, nil), (407, nil), (501, nil),
      (999, nil),
    ] as [(UInt16, ReplyCode?)])
  func whatAStatusSaysOfTheDestination(_ code: UInt16, _ expected: ReplyCode?) {
    #expect(HTTPStatus(code).replyCode == expected)
    let failure = HandshakeFailure.refusedByHTTP(HTTPStatus(code))
    #expect(failure.replyCode == expected)
    #expect(failure.description.contains("\(code)"))
  }

  @Test(arguments: [
    (Rejection.noAcceptableMethod, "no_acceptable_method"),
    (.wrongCredentials, "wrong_credentials"),
    (.commandNotSupported(.bind), "command_not_supported"),
    (.protocolViolation(.invalidName), "invalid_name"),
    (.refused(.hostUnreachable), "reply_host_unreachable"),
  ])
  func rejectionsByName(_ rejection: Rejection, _ name: String) {
    #expect(rejection.name == name)
    #expect(!rejection.description.isEmpty)
  }

  @Test func credentialLengths() throws {
    func error(_ username: Int, _ password: Int) -> CredentialsError? {
      let username = [UInt8](repeating: 0x75, count: username)
      let password = [UInt8](repeating: 0x70, count: password)
      do {
        _ = try Credentials(username: username, password: password)
        return nil
      } catch {
        return error
      }
    }
    #expect(error(1, 1) == nil)
    #expect(error(255, 255) == nil)
    #expect(error(0, 1) == .emptyUsername)
    #expect(error(256, 1) == .usernameTooLong)
    #expect(error(1, 0) == .emptyPassword)
    #expect(error(1, 256) == .passwordTooLong)
    // 128 characters of two bytes each.
    let tooLong = String(repeating: "ü", count: 128)
    #expect(throws: CredentialsError.usernameTooLong) {
      try Credentials(username: tooLong, password: "p")
    }
  }

  @Test func passwordsAreNotShown() {
    let login = credentials("user", "hunter2")
    var dumped = ""
    dump(login, to: &dumped)
    for text in ["\(login)", String(reflecting: login), dumped] {
      #expect(text.contains("user"))
      #expect(!text.contains("hunter2"))
      #expect(!text.contains("104"))
    }
  }
}
