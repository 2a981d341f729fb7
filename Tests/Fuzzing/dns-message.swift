internal import DNS

/// The first two bytes are the length of a query, which follows; what is left is an answer.
func fuzz(_ input: Span<UInt8>) {
  guard input.count >= 2 else { return }
  let end = min(2 + (Int(input[0]) << 8 | Int(input[1])), input.count)
  guard let query = Query((2..<end).map { input[$0] }) else { return }
  precondition(
    (Query.minimumAcceptedBytes...Query.maximumAcceptedBytes).contains(query.acceptedBytes),
    "accepts more or less than there can be")

  let failure = query.serverFailure
  precondition(query.isAnswered(by: failure), "our own answer is none")
  precondition(Query(failure) == nil, "our own answer is a query")

  let answer = (end..<input.count).map { input[$0] }
  guard query.isAnswered(by: answer) else { return }
  let (fitting, isTruncated) = query.fitting(answer)
  precondition(fitting.count <= query.acceptedBytes, "more than the client accepts")
  precondition(isTruncated == (answer.count > query.acceptedBytes), "truncated without need")
  precondition(isTruncated || fitting == answer, "changed without need")
  precondition(query.isAnswered(by: fitting), "what fits is no answer")
}
