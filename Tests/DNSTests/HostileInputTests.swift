import DNS
import TestSupport
import Testing

/// Random and damaged messages: nothing traps, and all agrees with the slow reader.
struct HostileInputTests {
  /// A byte that means something in a message, most often.
  private func telling(using generator: inout SplitMix) -> UInt8 {
    let meaningful: [UInt8] = [0, 0, 0, 1, 1, 2, 3, 12, 41, 0x3F, 0x40, 0x80, 0xC0, 0xC0, 0xFF]
    let index = Int.random(in: 0..<meaningful.count + 3, using: &generator)
    return index < meaningful.count
      ? meaningful[index] : UInt8.random(in: 0...255, using: &generator)
  }

  private func someMessage(using generator: inout SplitMix) -> [UInt8] {
    func several<Value>(_ most: Int, _ values: [Value]) -> [Value] {
      (0..<Int.random(in: 0...most, using: &generator)).map { _ in
        values[Int.random(in: values.indices, using: &generator)]
      }
    }
    let names = ["", "a", "www.example.com", "WWW.Example.COM", String(repeating: "x", count: 63)]
    let records = [
      record(data: [1, 2, 3, 4]), record([0xC0, 0x0C], data: [5]), record([0], data: []),
      record([1, 0x61, 0xC0, 0x0C], type: 41, data: []), options(accepting: 4096),
      options(accepting: 600, flags: 0x80, data: [UInt8](repeating: 3, count: 500)),
    ]
    return message(
      flags: Int.random(in: 0...0xFFFF, using: &generator),
      questions: several(2, names).map { question($0) }, answers: several(3, records),
      authorities: several(2, records), additionals: several(3, records))
  }

  private func check(_ bytes: [UInt8], against answer: [UInt8]) -> Bool {
    let slow = SlowReader(bytes)
    let isQuery = slow.questions != nil && bytes[2] < 0x80
    let query = Query(bytes)
    #expect((query != nil) == isQuery)
    guard let query, let questions = slow.questions else { return false }
    let said = slow.options.map { Int($0[3]) << 8 | Int($0[4]) } ?? 0
    #expect(query.acceptedBytes == min(max(said, 512), 65_507))

    let failure = query.serverFailure
    #expect(SlowReader(failure).questions == questions)
    #expect((SlowReader(failure).options == nil) == (slow.options == nil))
    #expect(query.isAnswered(by: failure))

    let answered = SlowReader(answer)
    let agrees =
      answer.count >= 12 && answer[2] >= 0x80
      && (answer[4] == 0 && answer[5] == 0
        || answered.questions.map { $0.map(folded) } == questions.map(folded))
    #expect(query.isAnswered(by: answer) == agrees)

    guard answer.count >= 12 else { return false }
    let (fitting, isTruncated) = query.fitting(answer)
    #expect(fitting.count <= query.acceptedBytes)
    #expect(isTruncated == (answer.count > query.acceptedBytes))
    guard isTruncated else { return agrees }
    let kept = SlowReader(fitting)
    #expect(kept.questions != nil)
    #expect(fitting[2] & 2 != 0)
    #expect(fitting[6..<10].allSatisfy { $0 == 0 })
    #expect((kept.options != nil) == (answered.options != nil))
    return agrees
  }

  /// A question with its letters in lower case, type and class left as they are.
  private func folded(_ question: [UInt8]) -> [UInt8] {
    question.enumerated().map { index, byte in
      index < question.count - 4 && (0x41...0x5A).contains(byte) ? byte + 0x20 : byte
    }
  }

  @Test(arguments: 0..<6)
  func agreesWithTheSlowReader(seed: UInt64) {
    var generator = SplitMix(seed: 300 + seed)
    var matches = 0
    for _ in 0..<8000 {
      var bytes = someMessage(using: &generator)
      bytes = mutated(bytes, using: &generator, telling)
      var answer = Bool.random(using: &generator) ? bytes : someMessage(using: &generator)
      if answer.count > 2 { answer[2] |= 0x80 }
      answer = mutated(answer, using: &generator, telling)
      if check(bytes, against: answer) { matches += 1 }
    }
    // The comparison would be worth little if nearly nothing matched.
    #expect(matches > 300)
  }

  @Test(arguments: 0..<4)
  func anyBytes(seed: UInt64) {
    var generator = SplitMix(seed: 400 + seed)
    for _ in 0..<3000 {
      let bytes = [Int.random(in: 0...80, using: &generator), 700].map { count in
        (0..<count).map { _ in telling(using: &generator) }
      }
      _ = check(bytes[0], against: bytes[1])
      _ = check(bytes[1], against: bytes[0])
    }
  }

  /// The most records and the longest names that fit, and counts that promise more than there is.
  @Test func thousandsOfRecords() {
    let smallest = record([0], data: [])
    let most = (65_535 - 12 - 5) / smallest.count
    var bytes = message(
      flags: recursive, questions: [question("")], answers: Array(repeating: smallest, count: most))
    #expect(check(bytes, against: bytes) == false)
    bytes.replaceSubrange(6..<12, with: [0, 0, 0, 0] + wire(most))
    #expect(Query(bytes)?.acceptedBytes == 512)
    bytes.replaceSubrange(6..<12, with: [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])
    #expect(Query(bytes)?.acceptedBytes == 512)
  }
}
