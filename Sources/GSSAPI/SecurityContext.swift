internal import CGSSAPI
package import SOCKS

/// A security context with a service, as its initiator, by Kerberos 5: for the credentials that the
/// environment names (`KRB5CCNAME`, or those of the keytab `KRB5_CLIENT_KTNAME`).
///
/// SAFETY: unchecked, since whoever has it calls it from one thread at a time; `step` blocks while it asks
/// a key distribution centre.
package final class SecurityContext: @unchecked Sendable {
  private let service: String
  private var loaded: SecurityLibrary?
  private var context: UnsafeMutableRawPointer?
  /// Tokens may be missing or arrive in another order: datagrams.
  package var takesAnyOrder = false

  /// - Parameter service: `service@host`.
  package init(service: String) { self.service = service }

  deinit {
    guard let library = loaded, context != nil else { return }
    library.call { cgss_delete_context($0, &context) }
  }

  private static let wanted = UInt32(
    CGSS_MUTUAL_FLAG | CGSS_REPLAY_FLAG | CGSS_SEQUENCE_FLAG | CGSS_CONFIDENTIALITY_FLAG
      | CGSS_INTEGRITY_FLAG)
  /// Without these a context cannot protect messages.
  private static let needed = UInt32(
    CGSS_MUTUAL_FLAG | CGSS_CONFIDENTIALITY_FLAG | CGSS_INTEGRITY_FLAG)

  /// Goes on with what the server has said, at first with nothing.
  package func step(_ token: [UInt8]) throws(SecurityFailure) -> SecurityStep {
    let library = try SecurityLibrary.load()
    loaded = library
    var name = try importedName(library)
    defer { library.call { cgss_release_name($0, &name) } }
    var (granted, minor): (UInt32, UInt32) = (0, 0)
    var output = cgss_buffer()
    let major = library.call { functions in
      token.withUnsafeBytes {
        cgss_step(
          functions, &context, name, Self.wanted, $0.baseAddress, $0.count, &output, &granted,
          &minor)
      }
    }
    let reply = library.taken(&output)
    guard major == CGSS_COMPLETE || major == CGSS_CONTINUE_NEEDED else {
      throw library.failure(major, minor, for: service)
    }
    let isComplete = major == CGSS_COMPLETE
    if isComplete, granted & Self.needed != Self.needed {
      throw SecurityFailure("the server's ticket does not allow for protected messages")
    }
    return SecurityStep(token: reply, isComplete: isComplete)
  }

  private func importedName(
    _ library: SecurityLibrary
  ) throws(SecurityFailure) -> UnsafeMutableRawPointer? {
    var name: UnsafeMutableRawPointer?
    var minor: UInt32 = 0
    let major = library.call { functions in
      Array(service.utf8).withUnsafeBytes {
        cgss_import_service(functions, $0.baseAddress, $0.count, &name, &minor)
      }
    }
    guard major == CGSS_COMPLETE else { throw library.failure(major, minor, for: service) }
    return name
  }

  private func established() throws(SecurityFailure) -> SecurityLibrary {
    guard let library = loaded, context != nil else {
      throw SecurityFailure("there is no security context yet")
    }
    return library
  }

  /// Appends the token that carries `bytes`.
  package func wrap(
    _ bytes: UnsafeRawBufferPointer, confidentially: Bool, into output: inout [UInt8]
  ) throws(SecurityFailure) {
    let library = try established()
    var (isConfidential, minor): (Int32, UInt32) = (0, 0)
    var token = cgss_buffer()
    let major = library.call {
      cgss_wrap(
        $0, context, confidentially ? 1 : 0, bytes.baseAddress, bytes.count, &isConfidential,
        &token, &minor)
    }
    defer { library.call { cgss_release($0, &token) } }
    guard major == CGSS_COMPLETE else { throw library.failure(major, minor, for: service) }
    guard !confidentially || isConfidential != 0 else {
      throw SecurityFailure("the security mechanism does not encrypt")
    }
    output.append(
      contentsOf: UnsafeRawBufferPointer(start: token.value, count: token.length))
  }

  /// Appends the bytes in a token; whether nobody could read them on the way.
  package func unwrap(
    _ token: UnsafeRawBufferPointer, into output: inout [UInt8]
  ) throws(SecurityFailure) -> Bool {
    let library = try established()
    var (isConfidential, minor): (Int32, UInt32) = (0, 0)
    var bytes = cgss_buffer()
    let major = library.call {
      cgss_unwrap(
        $0, context, token.baseAddress, token.count, &isConfidential, &bytes, &minor)
    }
    defer { library.call { cgss_release($0, &bytes) } }
    guard major & ~UInt32(CGSS_SUPPLEMENTARY_BITS) == CGSS_COMPLETE else {
      throw library.failure(major, minor, for: service)
    }
    guard major & disorder == 0 else {
      throw SecurityFailure("a message has been repeated, left out or moved on its way")
    }
    output.append(
      contentsOf: UnsafeRawBufferPointer(start: bytes.value, count: bytes.length))
    return isConfidential != 0
  }

  /// What is wrong with a token though it is genuine (RFC 2743, section 1.2.3).
  private var disorder: UInt32 {
    let repetition = CGSS_DUPLICATE_TOKEN | CGSS_OLD_TOKEN
    return UInt32(takesAnyOrder ? repetition : repetition | CGSS_UNSEQ_TOKEN | CGSS_GAP_TOKEN)
  }
}

extension SecurityContext: MessageProtection {
  package func wrap(_ bytes: [UInt8], confidentially: Bool) throws(SecurityFailure) -> [UInt8] {
    var token: [UInt8] = []
    try bytes.span.withUnsafeBytes { (bytes) throws(SecurityFailure) in
      try wrap(bytes, confidentially: confidentially, into: &token)
    }
    return token
  }

  package func unwrap(
    _ token: [UInt8]
  ) throws(SecurityFailure) -> (bytes: [UInt8], isConfidential: Bool) {
    var bytes: [UInt8] = []
    let isConfidential = try token.span.withUnsafeBytes { (token) throws(SecurityFailure) in
      try unwrap(token, into: &bytes)
    }
    return (bytes, isConfidential)
  }
}

extension SecurityLibrary {
  /// The contents of a buffer of the library's, which is released.
  func taken(_ buffer: inout cgss_buffer) -> [UInt8] {
    defer { call { cgss_release($0, &buffer) } }
    return Array(UnsafeRawBufferPointer(start: buffer.value, count: buffer.length))
  }
}
