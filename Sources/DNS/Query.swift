/// A query as a client sent it by UDP, as far as carrying it takes.
package struct Query: Hashable, Sendable {
  /// What a client accepts that does not say more (RFC 1035, section 4.2.1), and what less than this
  /// counts as (RFC 6891, section 6.2.3).
  package static let minimumAcceptedBytes = 512
  /// What UDP over IPv4 can carry, whatever the client accepts.
  package static let maximumAcceptedBytes = 65_507
  /// A length of two bytes says no more (RFC 1035, section 4.2.2).
  package static let maximumBytes = 0xFFFF

  package let message: [UInt8]
  /// The largest answer that the client takes by UDP.
  package let acceptedBytes: Int
  let endOfQuestions: Int
  /// The OPT record, if the client speaks EDNS.
  private let optionRecord: Range<Int>?

  /// Nil if this is an answer, or no message: shorter than a header, or its questions cannot be read.
  package init?(_ message: [UInt8]) {
    let bytes = message.span
    guard bytes.count <= Self.maximumBytes, let endOfQuestions = bytes.endOfQuestions,
      bytes[Header.flags] & Header.isAnswer == 0
    else { return nil }
    self.message = message
    self.endOfQuestions = endOfQuestions
    optionRecord = bytes.optionRecord(from: endOfQuestions)
    let said = optionRecord.map {
      Int(bytes.integer(at: $0.lowerBound + OptionRecord.payloadBytes))
    }
    acceptedBytes = min(max(said ?? 0, Self.minimumAcceptedBytes), Self.maximumAcceptedBytes)
  }

  package var id: UInt16 { message.span.integer(at: Header.id) }

  // MARK: Answers

  /// Whether `answer` answers this query, its id aside: it has the same questions, or none, as some
  /// answers that report an error.
  ///
  /// Names are compared without regard to the case of letters (RFC 4343), all else exactly.
  package func isAnswered(by answer: [UInt8]) -> Bool {
    let (asked, said) = (message.span, answer.span)
    guard said.count >= Header.bytes, said[Header.flags] & Header.isAnswer != 0 else {
      return false
    }
    let questions = said.integer(at: Header.questionCount)
    if questions == 0 { return true }
    guard questions == asked.integer(at: Header.questionCount), said.count >= endOfQuestions else {
      return false
    }
    var offset = Header.bytes
    while offset < endOfQuestions {
      // A label's length is below every letter: it is compared exactly, and so both names end here.
      while asked[offset] != 0 {
        let end = offset + Int(asked[offset])
        for index in offset...end where asked[index].lowercased != said[index].lowercased {
          return false
        }
        offset = end + 1
      }
      for index in offset...offset + Question.fixedBytes where asked[index] != said[index] {
        return false
      }
      offset += 1 + Question.fixedBytes
    }
    return true
  }

  /// `answer` as the client can take it: if it is too large, only its header with TC, from which the
  /// client knows that it must ask by TCP, its questions and its OPT record (RFC 6891, section 7), as
  /// far as there is room for them.
  package func fitting(_ answer: [UInt8]) -> (message: [UInt8], isTruncated: Bool) {
    guard answer.count > acceptedBytes else { return (answer, false) }
    var fitting = Array(answer[..<Header.bytes])
    fitting[Header.flags] |= Header.isTruncated
    for count in [Header.answerCount, Header.authorityCount, Header.additionalCount] {
      fitting.store(0, at: count)
    }
    let endOfQuestions = answer.span.endOfQuestions
    if let endOfQuestions, endOfQuestions <= acceptedBytes {
      fitting += answer[Header.bytes..<endOfQuestions]
    } else {
      fitting.store(0, at: Header.questionCount)
    }
    if let endOfQuestions, let record = answer.span.optionRecord(from: endOfQuestions),
      fitting.count + OptionRecord.minimumBytes <= acceptedBytes
    {
      let start = fitting.count
      if start + record.count <= acceptedBytes {
        fitting += answer[record]
      } else {
        fitting += answer[record].prefix(OptionRecord.minimumBytes)
        fitting.store(0, at: start + OptionRecord.dataLength)
      }
      fitting.store(1, at: Header.additionalCount)
    }
    return (fitting, true)
  }

  /// The answer for want of a real one: SERVFAIL, from which the client knows at once that it must ask
  /// somebody else. OPCODE, RD (RFC 1035, section 4.1.1), CD (RFC 4035, section 3.2.2), the questions
  /// and, where the client speaks EDNS, DO are repeated.
  package var serverFailure: [UInt8] {
    var answer = Array(message[..<endOfQuestions])
    answer[Header.flags] &= Header.opcode | Header.recursionDesired
    answer[Header.flags] |= Header.isAnswer
    answer[Header.moreFlags] &= Header.checkingDisabled
    answer[Header.moreFlags] |= Header.recursionAvailable | Header.serverFailure
    for count in [Header.answerCount, Header.authorityCount, Header.additionalCount] {
      answer.store(0, at: count)
    }
    if let optionRecord {
      answer.store(1, at: Header.additionalCount)
      answer.append(0)
      answer.append(bigEndian: OptionRecord.typeCode)
      answer.append(bigEndian: UInt16(Self.minimumAcceptedBytes))
      answer += [0, 0, message[optionRecord.lowerBound + OptionRecord.flags], 0]
      answer[answer.endIndex - 2] &= OptionRecord.dnssecOK
      answer.append(bigEndian: 0)
    }
    return answer
  }
}

extension UInt8 {
  /// A to Z as a to z, everything else as it is.
  var lowercased: UInt8 { (0x41...0x5A).contains(self) ? self | 0x20 : self }
}
