/// The head of a message between a client and a server that use GSSAPI (RFC 1961, sections 3.4, 4.2
/// and 5); a token of LEN bytes follows, except behind an abort, which has no LEN either:
///
///     +-----+------+-----+
///     | VER | MTYP | LEN |
///     +-----+------+-----+
///     | 1   | 1    | 2   |   LEN in network byte order
///     +-----+------+-----+
package enum SecurityMessage: Hashable, Sendable {
  /// Before the token.
  package static let headBytes = 4
  package static let maximumTokenBytes = 65535
  package static let maximumBytes = headBytes + maximumTokenBytes

  /// What a token is for.
  package enum Purpose: UInt8, Hashable, Sendable {
    /// The security context, on its way to be established.
    case context = 1
    /// The protection level, one byte in a token of the context.
    case protection = 2
    /// A piece of the stream, or a datagram, in a token of the context.
    case data = 3
  }

  case token(Purpose, count: Int)
  /// The sender gives up.
  case abort

  private static let version: UInt8 = 1
  private static let abortType: UInt8 = 0xFF

  /// Reads the head that `bytes` begin with; nil for a part of one. What is wrong is reported at the
  /// first byte that shows it.
  package static func decode(from bytes: Span<UInt8>) throws(Violation) -> SecurityMessage? {
    guard bytes.count >= 1 else { return nil }
    guard bytes[0] == version else { throw .wrongSecurityVersion(bytes[0]) }
    guard bytes.count >= 2 else { return nil }
    if bytes[1] == abortType { return .abort }
    guard let purpose = Purpose(rawValue: bytes[1]) else {
      throw .unexpectedSecurityMessage(bytes[1])
    }
    guard bytes.count >= headBytes else { return nil }
    return .token(purpose, count: Int(bytes[2]) << 8 | Int(bytes[3]))
  }

  /// Writes the head of a token of `count` bytes, at most `maximumTokenBytes`.
  package static func encodeHead(
    _ purpose: Purpose, count: Int, into output: inout [UInt8]
  ) {
    precondition(count <= maximumTokenBytes)
    output.append(version)
    output.append(purpose.rawValue)
    output.append(UInt8(count >> 8))
    output.append(UInt8(count & 0xFF))
  }

  /// Writes a message; fails if no message can carry the token.
  static func encode(
    _ purpose: Purpose, _ token: [UInt8], into output: inout [UInt8]
  ) throws(SecurityFailure) {
    guard token.count <= maximumTokenBytes else { throw .tokenTooLong }
    encodeHead(purpose, count: token.count, into: &output)
    output.append(contentsOf: token)
  }

  /// What is wrong with a message of this purpose that has come out of its turn.
  static func unexpected(_ purpose: Purpose) -> Violation {
    .unexpectedSecurityMessage(purpose.rawValue)
  }
}

/// What becomes of every message behind the negotiation (RFC 1961, section 4).
package enum ProtectionLevel: UInt8, Hashable, Sendable, CaseIterable {
  /// Nothing: the stream goes on as without GSSAPI. Not in the RFC, but Dante has it.
  case none = 0
  /// Nobody can change it.
  case integrity = 1
  /// Nor read it.
  case confidentiality = 2
  /// Nobody can change it, and of each message its sender decides whether others can read it. Where one
  /// wants to go nobody else is to know: we encrypt the request. The stream and datagrams behind it, of which
  /// the applications know better, we do not.
  case selective = 3

  /// Whether our request is encrypted.
  var encryptsRequest: Bool {
    switch self {
    case .none, .integrity: false
    case .confidentiality, .selective: true
    }
  }
}

/// What a client that uses GSSAPI wants.
package struct SecurityOffer: Hashable, Sendable {
  /// Who the server has to be, as GSSAPI names services: `service@host` (RFC 2743, section 4.1).
  package let service: String
  /// What is acceptable, the best first; not empty.
  package let levels: [ProtectionLevel]
  /// Offered beside GSSAPI; nil: no other method is.
  package let credentials: Credentials?

  package init(service: String, levels: [ProtectionLevel], credentials: Credentials?) {
    precondition(!levels.isEmpty)
    self.service = service
    self.levels = levels
    self.credentials = credentials
  }
}

/// What came of one step towards a security context (`gss_init_sec_context`, RFC 2743, section 2.2.1).
package struct SecurityStep: Hashable, Sendable {
  /// For the server; empty if there is none.
  package let token: [UInt8]
  package let isComplete: Bool

  package init(token: [UInt8], isComplete: Bool) {
    self.token = token
    self.isComplete = isComplete
  }
}

/// The per-message calls of a security context that has been established (RFC 2743, section 2.3). They
/// do not block.
package protocol MessageProtection {
  /// The token that carries `bytes`.
  func wrap(_ bytes: [UInt8], confidentially: Bool) throws(SecurityFailure) -> [UInt8]
  /// The bytes in a token, and whether nobody could read them on the way. Fails where something was
  /// changed, repeated or left out.
  func unwrap(_ token: [UInt8]) throws(SecurityFailure) -> (bytes: [UInt8], isConfidential: Bool)
}

/// Why a security context is of no use.
package struct SecurityFailure: Error, Hashable, Sendable, CustomStringConvertible {
  /// For people: what is wrong, and what helps.
  package let description: String

  package init(_ description: String) { self.description = description }

  static let tokenTooLong = SecurityFailure("a token is longer than a SOCKS message can be")
  static let nothingToSay = SecurityFailure(
    "the security mechanism has nothing to say to the server")
}
