import DNS
import Testing

/// A pipeline, and what it has put on the present connection.
struct Pipe {
  var pipeline = QueryPipeline<Int>(timeoutMilliseconds: 10_000)

  /// The messages that are sent now.
  mutating func send() -> [[UInt8]] {
    var output: [UInt8] = []
    pipeline.encodeUnsent(into: &output, upTo: .max)
    var reassembler = MessageReassembler()
    var messages: [[UInt8]] = []
    var consumed = 0
    while let message = reassembler.next(from: output.span, &consumed) { messages.append(message) }
    precondition(consumed == output.count, "half a message")
    return messages
  }

  mutating func receive(_ bytes: [UInt8]) -> [QueryPipeline<Int>.Completion] {
    var completions: [QueryPipeline<Int>.Completion] = []
    var consumed = 0
    while let completion = pipeline.nextAnswer(from: bytes.span, &consumed) {
      completions.append(completion)
    }
    precondition(consumed == bytes.count, "left bytes and asked for more")
    return completions
  }

  /// Adds queries for names that begin with their context.
  mutating func add(_ contexts: Range<Int>, now: UInt64 = 0) {
    for context in contexts {
      let isTaken = pipeline.add(
        query("q\(context).example", id: 7 * context), for: context, now: now)
      precondition(isTaken, "not taken")
    }
  }
}

/// What a resolver answers to a query.
func answer(to query: [UInt8], data: [UInt8] = [192, 0, 2, 1]) -> [UInt8] {
  var answer = query
  answer[2] |= 0x80
  answer[7] = 1
  return answer + record([0xC0, 0x0C], data: data)
}

private func first(_ message: [UInt8]) -> Int { Int(message[0]) << 8 | Int(message[1]) }

struct QueryPipelineTests {
  @Test func answersComeInAnyOrder() {
    var pipe = Pipe()
    pipe.add(0..<3)
    let sent = pipe.send()
    #expect(Set(sent.map(first)).count == 3)
    #expect(pipe.send().isEmpty)
    let answers = sent.reversed().flatMap { framed(answer(to: $0)) }
    let completions = pipe.receive(answers)
    #expect(completions.map(\.context) == [2, 1, 0])
    #expect(completions.map { first($0.message) } == [14, 7, 0])
    #expect(completions.allSatisfy { !$0.isTruncated && $0.message[3] == 0 })
    #expect(pipe.pipeline.isEmpty)
    #expect(pipe.pipeline.nextExpiry == nil)
  }

  @Test func largeAnswerIsTruncated() {
    var pipe = Pipe()
    pipe.add(5..<6)
    let sent = pipe.send()[0]
    let completions = pipe.receive(
      framed(answer(to: sent, data: [UInt8](repeating: 1, count: 2000))))
    #expect(completions.map(\.isTruncated) == [true])
    #expect(
      completions[0].message == message(id: 35, flags: 0x8300, questions: [question("q5.example")]))
  }

  /// Wrong ids, wrong questions, queries, and messages that are none: passed over.
  @Test func strangersAreIgnored() {
    var pipe = Pipe()
    pipe.add(0..<2)
    let sent = pipe.send()
    var otherID = answer(to: sent[0])
    otherID[0] ^= 0xFF
    var otherQuestion = answer(to: sent[0])
    otherQuestion[13] ^= 1
    var swapped = answer(to: sent[0])
    swapped.replaceSubrange(0..<2, with: sent[1][..<2])
    for stranger in [[], [1, 2, 3], sent[0], otherID, otherQuestion, swapped] as [[UInt8]] {
      #expect(pipe.receive(framed(stranger)).isEmpty)
    }
    #expect(pipe.receive(framed(answer(to: sent[0]))).map(\.context) == [0])
    #expect(pipe.receive(framed(answer(to: sent[0]))).isEmpty)
  }

  @Test func unsentQueryHasNoAnswer() {
    var pipe = Pipe()
    pipe.add(0..<1)
    let sent = pipe.send()
    let lost = pipe.pipeline.connectionLost()
    #expect(lost.isEmpty)
    #expect(pipe.receive(framed(answer(to: sent[0]))).isEmpty)
    #expect(pipe.send() == sent)
    #expect(pipe.receive(framed(answer(to: sent[0]))).map(\.context) == [0])
  }

  @Test func halfAnAnswerDiesWithItsConnection() {
    var pipe = Pipe()
    pipe.add(0..<1)
    let bytes = framed(answer(to: pipe.send()[0]))
    #expect(pipe.receive(Array(bytes.dropLast())).isEmpty)
    _ = pipe.pipeline.connectionLost()
    _ = pipe.send()
    #expect(pipe.receive(bytes).map(\.context) == [0])
  }

  // MARK: Bounds

  @Test func queriesAreBounded() {
    var pipe = Pipe()
    let most = QueryPipeline<Int>.maximumQueries
    pipe.add(0..<most)
    let isTaken = pipe.pipeline.add(query(), for: -1, now: 0)
    #expect(!isTaken)
    let sent = pipe.send()
    #expect(Set(sent.map(first)).count == most)
    #expect(pipe.receive(framed(answer(to: sent[100]))).count == 1)
    pipe.add(most..<most + 1)
    #expect(pipe.send().count == 1)
  }

  @Test func bytesAreBounded() {
    let large = Query(
      message(flags: recursive, questions: [question("a")])
        + [UInt8](repeating: 0, count: 60_000))
    guard let large else { preconditionFailure("no query") }
    var pipeline = QueryPipeline<Int>(timeoutMilliseconds: 1)
    var count = 0
    while pipeline.add(large, for: count, now: 0) { count += 1 }
    #expect(count == QueryPipeline<Int>.maximumBytes / large.message.count)
    let failed = pipeline.giveUp()
    #expect(failed.count == count)
    let isTaken = pipeline.add(large, for: 0, now: 0)
    #expect(isTaken)
  }

  @Test func outputIsBounded() {
    var pipe = Pipe()
    pipe.add(0..<100)
    var output: [UInt8] = []
    pipe.pipeline.encodeUnsent(into: &output, upTo: 100)
    #expect((100..<200).contains(output.count))
    #expect(pipe.pipeline.canSend)
  }

  /// An id comes back only after tens of thousands of others.
  @Test func idsComeBackLate() {
    var pipe = Pipe()
    var used: Set<Int> = []
    for context in 0..<65_536 {
      pipe.add(context % 100..<context % 100 + 1)
      let sent = pipe.send()[0]
      used.insert(first(sent))
      _ = pipe.receive(framed(answer(to: sent)))
    }
    #expect(used.count == 65_536)
  }

  // MARK: Lost connections

  /// A query is sent three times, then it has failed.
  @Test func givesUpAQueryThatNoConnectionAnswers() {
    var pipe = Pipe()
    pipe.add(0..<1)
    for _ in 0..<2 {
      #expect(pipe.send().count == 1)
      let failed = pipe.pipeline.connectionLost()
      #expect(failed.isEmpty)
    }
    #expect(pipe.send().count == 1)
    let failed = pipe.pipeline.connectionLost()
    #expect(failed.map(\.context) == [0])
    #expect(failed.map { $0.message[3] } == [0x82])
    #expect(pipe.pipeline.isEmpty)
  }

  /// A query that ends every connection does not take the others with it.
  @Test(arguments: [0, 3, 9])
  func poisonHarmsOnlyItself(poison: Int) {
    var pipe = Pipe()
    pipe.add(0..<10)
    var answered: Set<Int> = []
    var failed: [Int] = []
    while !pipe.pipeline.isEmpty {
      var sent = pipe.send()
      var isLost = false
      while !sent.isEmpty, !isLost {
        // The server reads all that it was sent before it answers.
        if sent.contains(where: { $0[12...].starts(with: question("q\(poison).example")) }) {
          isLost = true
        } else {
          answered.formUnion(pipe.receive(sent.flatMap { framed(answer(to: $0)) }).map(\.context))
          sent = pipe.send()
        }
      }
      failed += pipe.pipeline.connectionLost().map(\.context)
    }
    #expect(failed == [poison])
    #expect(answered == Set(0..<10).subtracting([poison]))
  }

  /// A server that closes after each answer is slow, not broken.
  @Test func oneAnswerPerConnection() {
    var pipe = Pipe()
    pipe.add(0..<50)
    for context in 0..<50 {
      let sent = pipe.send()
      #expect(pipe.receive(framed(answer(to: sent[0]))).map(\.context) == [context])
      let failed = pipe.pipeline.connectionLost()
      #expect(failed.isEmpty)
    }
    #expect(pipe.pipeline.isEmpty)
  }

  /// Connections that cannot be made at all are tried a few times, then everything has failed, and
  /// what comes later fails at the first attempt, until an answer comes.
  @Test func givesUpAResolverThatCannotBeReached() {
    var pipe = Pipe()
    pipe.add(0..<5)
    for _ in 0..<3 { #expect(pipe.pipeline.connectionLost().isEmpty) }
    #expect(pipe.pipeline.connectionLost().map(\.context) == [0, 1, 2, 3, 4])
    pipe.add(5..<7)
    #expect(pipe.pipeline.connectionLost().map(\.context) == [5, 6])
    pipe.add(7..<8)
    let sent = pipe.send()
    #expect(pipe.receive(framed(answer(to: sent[0]))).map(\.context) == [7])
    pipe.add(8..<9)
    _ = pipe.pipeline.connectionLost()
    #expect(pipe.pipeline.connectionLost().isEmpty)
  }

  // MARK: Expiry

  @Test func expiresInOrder() {
    var pipe = Pipe()
    pipe.add(0..<2, now: 100)
    pipe.add(2..<3, now: 200)
    _ = pipe.send()
    #expect(pipe.pipeline.nextExpiry == 10_100)
    #expect(pipe.pipeline.expire(now: 10_099) == nil)
    #expect(pipe.pipeline.expire(now: 10_100)?.context == 0)
    #expect(pipe.pipeline.expire(now: 10_199)?.context == 1)
    #expect(pipe.pipeline.expire(now: 10_199) == nil)
    #expect(pipe.pipeline.nextExpiry == 10_200)
    let last = pipe.pipeline.expire(now: 20_000)
    #expect(last?.message == query("q2.example", id: 14).serverFailure)
  }

  /// The answer to a query that has expired does not go to the one that has its place.
  @Test func lateAnswerFindsNobody() {
    var pipe = Pipe()
    let most = QueryPipeline<Int>.maximumQueries
    pipe.add(0..<most)
    let sent = pipe.send()
    while pipe.pipeline.expire(now: 10_000) != nil {}
    pipe.add(0..<most, now: 10_000)
    let again = pipe.send()
    #expect(pipe.receive(sent.flatMap { framed(answer(to: $0)) }).isEmpty)
    #expect(pipe.receive(again.flatMap { framed(answer(to: $0)) }).count == most)
  }
}
