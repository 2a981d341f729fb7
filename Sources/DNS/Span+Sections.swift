/// Finding the way through a message without reading what it says. Everything is an offset from the
/// beginning of the message, nil where the message ends too early or breaks the format.
///
/// A compression pointer ends a name (RFC 1035, section 4.1.4). It is stepped over, never followed, so
/// that there is nothing to go round in, and every step goes forward by at least a byte.
extension Span where Element == UInt8 {
  /// The two bytes at `offset`, which must be there, in network byte order.
  func integer(at offset: Int) -> UInt16 {
    UInt16(self[offset]) << 8 | UInt16(self[offset + 1])
  }

  /// The end of the question section; nil also if a name in it is compressed, for there is nothing
  /// before the first question that its name could share.
  var endOfQuestions: Int? {
    guard count >= Header.bytes else { return nil }
    var offset = Header.bytes
    for _ in 0..<integer(at: Header.questionCount) {
      guard let name = endOfName(at: offset), name.isWhole,
        name.end + Question.fixedBytes <= count
      else { return nil }
      offset = name.end + Question.fixedBytes
    }
    return offset
  }

  /// The OPT record of the additional section (RFC 6891, section 6.1.1), which belongs to the root;
  /// the first one, if there are several against the rules. Records begin at `start`.
  func optionRecord(from start: Int) -> Range<Int>? {
    guard var offset = endOfRecords(integer(at: Header.answerCount), from: start) else {
      return nil
    }
    guard let next = endOfRecords(integer(at: Header.authorityCount), from: offset) else {
      return nil
    }
    offset = next
    for _ in 0..<integer(at: Header.additionalCount) {
      guard let end = endOfRecord(at: offset) else { return nil }
      if self[offset] == 0, integer(at: offset + OptionRecord.type) == OptionRecord.typeCode {
        return offset..<end
      }
      offset = end
    }
    return nil
  }

  private func endOfRecords(_ records: UInt16, from start: Int) -> Int? {
    var offset = start
    for _ in 0..<records {
      guard let end = endOfRecord(at: offset) else { return nil }
      offset = end
    }
    return offset
  }

  private func endOfRecord(at start: Int) -> Int? {
    guard let name = endOfName(at: start), name.end + Record.fixedBytes <= count else { return nil }
    let data = name.end + Record.fixedBytes
    let end = data + Int(integer(at: name.end + Record.dataLength))
    return end <= count ? end : nil
  }

  /// Where the name that begins at `start` ends, and whether it does so by the root, not by a pointer.
  private func endOfName(at start: Int) -> (end: Int, isWhole: Bool)? {
    var offset = start
    while offset < count, offset - start < Name.maximumBytes {
      let length = self[offset]
      switch length & Name.labelKind {
      case Name.label:
        offset += 1 + Int(length)
        if length == 0 { return (offset, true) }
      case Name.pointer:
        return offset + Name.pointerBytes <= count ? (offset + Name.pointerBytes, false) : nil
      default:
        return nil
      }
    }
    return nil
  }
}

/// Labels, each behind its length, up to the empty one of the root or a pointer (RFC 1035, sections
/// 3.1 and 4.1.4).
enum Name {
  static let maximumBytes = 255
  static let pointerBytes = 2
  /// Offset from the beginning of the message, of what a pointer leads to.
  static let target: UInt16 = 0x3FFF
  /// Pointers that are followed for one name: as many as it can have labels.
  static let maximumJumps = 127

  // The upper two bits of the byte that a label begins with; the other values are not in use.
  static let labelKind: UInt8 = 0xC0
  static let label: UInt8 = 0
  static let pointer: UInt8 = 0xC0
}

/// What follows the name of a question: type and class (RFC 1035, section 4.1.2).
enum Question {
  static let fixedBytes = 2 + 2
  static let classCode = 2
}

/// What follows the name of a record: type, class, TTL, length of the data (RFC 1035, section 4.1.3).
enum Record {
  static let fixedBytes = 2 + 2 + 4 + 2
  static let classCode = 2
  static let dataLength = 2 + 2 + 4

  /// Class IN.
  static let internet: UInt16 = 1
  // Types (RFC 1035, section 3.2.2; RFC 3596, section 2.1).
  static let address: UInt16 = 1
  static let alias: UInt16 = 5
  static let addressV6: UInt16 = 28
}

/// The record that carries what EDNS adds to a message (RFC 6891, section 6.1.2); offsets from its
/// beginning, the empty name included:
///
///     +------+------+--------------+----------------+---------+--------+----------+---------+
///     | NAME | TYPE | payload size | extended RCODE | VERSION | DO, Z  | RDLENGTH | options |
///     +------+------+--------------+----------------+---------+--------+----------+---------+
///     | 1: 0 | 2    | 2            | 1              | 1       | 2      | 2        | RDLENGTH|
///     +------+------+--------------+----------------+---------+--------+----------+---------+
enum OptionRecord {
  static let typeCode: UInt16 = 41
  static let type = 1
  static let payloadBytes = 3
  static let flags = 7
  static let dataLength = 9
  /// A record without options.
  static let minimumBytes = 11

  /// DNSSEC OK: the client wants signatures, and an answer repeats it (RFC 3225, section 3).
  static let dnssecOK: UInt8 = 0x80
}
