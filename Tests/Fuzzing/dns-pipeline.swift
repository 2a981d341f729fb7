internal import DNS

/// The input is what a resolver that was asked two questions sends, in pieces.
func fuzz(_ input: Span<UInt8>) {
  let pieces = pieces(of: input, from: 0)
  var client = Client()
  for piece in pieces { client.receive(input.extracting(piece)) }
  if let last = pieces.last {
    var other = Client()
    other.receive(input.extracting(0..<last.upperBound))
    precondition(client.answers == other.answers, "the pieces make a difference")
  }
  client.end()
}

/// A pipeline whose queries have been sent; the context of each is its index.
private struct Client {
  private var pipeline = QueryPipeline<Int>(timeoutMilliseconds: 1000)
  private(set) var answers: [Answer] = []

  struct Answer: Equatable {
    let query: Int
    let message: [UInt8]
  }

  init() {
    precondition(queries.count == 2, "both are queries")
    for index in queries.indices {
      precondition(pipeline.add(queries[index], for: index, now: 0), "there is room for two")
    }
    var sent: [UInt8] = []
    pipeline.encodeUnsent(into: &sent, upTo: 512)
  }

  mutating func receive(_ piece: Span<UInt8>) {
    var consumed = 0
    while let completion = pipeline.nextAnswer(from: piece, &consumed) {
      precondition(consumed <= piece.count, "took bytes that are not there")
      take(completion)
    }
    precondition(consumed == piece.count, "left bytes and asked for more")
  }

  /// The resolver closes; what it has not answered is failed. Each query has one answer then.
  mutating func end() {
    for completion in pipeline.connectionLost() + pipeline.giveUp() { take(completion) }
    precondition(pipeline.isEmpty && pipeline.nextExpiry == nil, "keeps what was given up")
    precondition(answers.map(\.query).sorted() == Array(queries.indices), "lost or answered twice")
  }

  private mutating func take(_ completion: QueryPipeline<Int>.Completion) {
    let query = queries[completion.context]
    precondition(query.isAnswered(by: completion.message), "no answer to this query")
    precondition(completion.message.prefix(2) == query.message.prefix(2), "another query's id")
    precondition(completion.message.count <= query.acceptedBytes, "more than the client accepts")
    answers.append(Answer(query: completion.context, message: completion.message))
  }
}

/// One for the addresses of `a`, and one for the servers of the root by a client that speaks EDNS. They
/// are sent as 0800 and 0801.
private let queries = [
  [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x61, 0, 0, 1, 0, 1],
  [
    0xAB, 0xCD, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 1,
    0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0,
  ],
].compactMap(Query.init)
