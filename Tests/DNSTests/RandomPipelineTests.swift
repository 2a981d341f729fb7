import DNS
import TestSupport
import Testing

/// Random events on a pipeline and its model.
private struct Trial {
  var random: SplitMix
  var pipe = Pipe()
  var model = SlowPipeline(maximumQueries: QueryPipeline<Int>.maximumQueries)
  var now: UInt64 = 0
  var contexts = 0
  /// What the server has been sent and has not answered: queries by their contexts.
  var atServer: [(context: Int, query: [UInt8])] = []
  /// What earlier connections were sent and did not answer.
  var past: [(context: Int, query: [UInt8])] = []
  var answered = 0
  var failed = 0

  mutating func add(_ most: UInt64) {
    for _ in 0..<random.next(below: most) {
      let query = query("q\(contexts).example", id: contexts % 65_536)
      let isTaken = pipe.pipeline.add(query, for: contexts, now: now)
      #expect(isTaken == model.add(contexts, deadline: now + 10_000))
      contexts += 1
    }
  }

  mutating func send() {
    let sent = pipe.send()
    let contexts = model.send(.max)
    #expect(sent.map(context) == contexts)
    for (context, query) in zip(contexts, sent) { atServer.append((context, query)) }
  }

  private func context(of query: [UInt8]) -> Int {
    Int(String(decoding: query[14..<13 + Int(query[12])], as: UTF8.self)) ?? -1
  }

  /// Some of the queries are answered, in any order, strangers among them, and cut into pieces.
  mutating func answer() {
    var bytes: [UInt8] = []
    var expected: [Int] = []
    atServer.shuffle(using: &random)
    for _ in 0..<random.next(below: UInt64(atServer.count + 1)) {
      guard let (context, query) = atServer.popLast() else { break }
      if let stranger = past.randomElement(using: &random), !model.contains(stranger.context) {
        bytes += framed(DNSTests.answer(to: stranger.query))
      }
      bytes += framed(DNSTests.answer(to: query))
      if model.answer(context) { expected.append(context) }
    }
    let completions = randomPieces(of: bytes, using: &random).flatMap { pipe.receive($0) }
    #expect(completions.map(\.context) == expected)
    for completion in completions {
      #expect(
        Int(completion.message[0]) << 8 | Int(completion.message[1]) == completion.context % 65_536)
    }
    answered += completions.count
  }

  mutating func loseConnection() {
    let lost = pipe.pipeline.connectionLost().map(\.context)
    #expect(Set(lost) == model.connectionLost())
    failed += lost.count
    past = atServer.suffix(20) + past.prefix(20)
    atServer = []
  }

  mutating func pass(_ most: UInt64) {
    now += random.next(below: most)
    var expired: Set<Int> = []
    while let completion = pipe.pipeline.expire(now: now) { expired.insert(completion.context) }
    #expect(expired == model.expire(now: now))
    failed += expired.count
  }
}

struct RandomPipelineTests {
  /// - Parameter burst: queries that come at once at most; the larger ones meet the bound.
  @Test(arguments: [(1, 5), (2, 5), (3, 40), (4, 40), (5, 1500)] as [(UInt64, UInt64)])
  func agreesWithItsModel(seed: UInt64, burst: UInt64) {
    var trial = Trial(random: SplitMix(seed: seed))
    for _ in 0..<(burst > 100 ? 300 : 5000) {
      switch trial.random.next(below: 12) {
      case 0..<3: trial.add(burst)
      case 3..<6: trial.send()
      case 6..<9: trial.answer()
      case 9: trial.loseConnection()
      case 10: trial.pass(1000)
      default: trial.pass(6000)
      }
      #expect(trial.pipe.pipeline.count == trial.model.count)
      #expect(trial.pipe.pipeline.nextExpiry == trial.model.nextExpiry)
    }
    #expect(trial.answered > 100)
    #expect(trial.failed > 100)
  }
}
