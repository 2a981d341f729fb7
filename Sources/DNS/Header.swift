/// The twelve bytes that every message begins with (RFC 1035, section 4.1.1; AD and CD: RFC 4035,
/// section 3):
///
///     +----+--------------------+-------------------+---------+---------+---------+---------+
///     | ID | QR OPCODE AA TC RD | RA Z AD CD RCODE  | QDCOUNT | ANCOUNT | NSCOUNT | ARCOUNT |
///     +----+--------------------+-------------------+---------+---------+---------+---------+
///     | 2  | 1: 1  4  1 1 1 bit | 1: 1 1 1 1 4 bits | 2       | 2       | 2       | 2       |
///     +----+--------------------+-------------------+---------+---------+---------+---------+
enum Header {
  static let bytes = 12

  // Offsets.
  static let id = 0
  static let flags = 2
  static let moreFlags = 3
  static let questionCount = 4
  static let answerCount = 6
  static let authorityCount = 8
  static let additionalCount = 10

  // Bits of the byte at `flags`.
  static let isAnswer: UInt8 = 0x80
  static let opcode: UInt8 = 0x78
  static let isTruncated: UInt8 = 0x02
  static let recursionDesired: UInt8 = 0x01

  // Bits of the byte at `moreFlags`.
  static let recursionAvailable: UInt8 = 0x80
  static let checkingDisabled: UInt8 = 0x10

  static let responseCode: UInt8 = 0x0F

  /// RCODE 2: the server could not process the query.
  static let serverFailure: UInt8 = 2
}

extension [UInt8] {
  /// Writes `value` in network byte order over the two bytes at `offset`.
  mutating func store(_ value: UInt16, at offset: Int) {
    self[offset] = UInt8(truncatingIfNeeded: value >> 8)
    self[offset + 1] = UInt8(truncatingIfNeeded: value)
  }

  mutating func append(bigEndian value: UInt16) {
    append(UInt8(truncatingIfNeeded: value >> 8))
    append(UInt8(truncatingIfNeeded: value))
  }
}
