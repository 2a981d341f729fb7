/// What an answer says of the name that was asked for: its addresses (A: RFC 1035, section 3.4.1; AAAA:
/// RFC 3596, section 2.2), behind however many aliases (CNAME).
package struct NamedAddresses: Hashable, Sendable {
  /// In host byte order.
  package enum Address: Hashable, Sendable {
    case v4(UInt32)
    case v6(high: UInt64, low: UInt64)
  }

  /// Records that are looked at, from the first one on.
  package static let maximumRecords = 128
  /// Names that an answer may lead through, the one that was asked for included.
  package static let maximumAliases = 16

  /// The name of the question in lower case, as it is written in a zone file, without the last dot; bytes
  /// that host names do not have are `\DDD`.
  package let name: String
  /// In the order of the answer; at least one.
  package private(set) var addresses: [Address] = []

  /// Nil if this is not an answer to a single question, reports an error, has no address for the name, or
  /// cannot be read up to the end of the records that are looked at.
  package init?(_ message: Span<UInt8>) {
    guard message.isPlainAnswer, let endOfQuestions = message.endOfQuestions,
      let asked = message.name(at: Header.bytes),
      message.integer(at: asked.end + Question.classCode) == Record.internet
    else { return nil }
    name = String(domainName: asked.name)
    var names = [asked.name]
    var offset = endOfQuestions
    for _ in 0..<min(Int(message.integer(at: Header.answerCount)), Self.maximumRecords) {
      guard let owner = message.name(at: offset), owner.end + Record.fixedBytes <= message.count
      else { return nil }
      let start = owner.end + Record.fixedBytes
      let end = start + Int(message.integer(at: owner.end + Record.dataLength))
      guard end <= message.count else { return nil }
      offset = end
      guard message.integer(at: owner.end + Record.classCode) == Record.internet,
        names.contains(owner.name)
      else { continue }
      switch message.integer(at: owner.end) {
      case Record.address:
        guard end - start == 4 else { return nil }
        addresses.append(.v4(UInt32(message.integer(at: start, bytes: 4))))
      case Record.addressV6:
        guard end - start == 16 else { return nil }
        let high = message.integer(at: start, bytes: 8)
        addresses.append(.v6(high: high, low: message.integer(at: start + 8, bytes: 8)))
      case Record.alias:
        guard let alias = message.name(at: start), alias.end == end else { return nil }
        if names.count < Self.maximumAliases { names.append(alias.name) }
      default: continue
      }
    }
    if addresses.isEmpty { return nil }
  }
}

extension Span where Element == UInt8 {
  /// Whether this answers a standard query that has one question, without an error.
  fileprivate var isPlainAnswer: Bool {
    count >= Header.bytes
      && self[Header.flags] & (Header.isAnswer | Header.opcode) == Header.isAnswer
      && self[Header.moreFlags] & Header.responseCode == 0
      && integer(at: Header.questionCount) == 1
  }

  /// The bytes from `offset` on, which must be there and at most eight, in network byte order.
  fileprivate func integer(at offset: Int, bytes: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in offset..<offset + bytes { value = value << 8 | UInt64(self[index]) }
    return value
  }
}
