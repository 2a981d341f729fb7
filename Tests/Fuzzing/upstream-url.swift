internal import Configuration

/// The input is what a user gives for an upstream, or a chain of them. What it is shown as is one again,
/// with the same hops and as many passwords.
func fuzz(_ input: Span<UInt8>) {
  let text = String(decoding: input.indices.map { input[$0] }, as: UTF8.self)
  guard let chain = try? UpstreamChain(text) else { return }
  let shown = chain.description
  guard let again = try? UpstreamChain(shown) else {
    preconditionFailure("is shown as something else than an upstream")
  }
  precondition(again.description == shown, "is shown in another way the second time")
  precondition(again.hops.count == chain.hops.count, "has other hops")
  for (hop, other) in zip(chain.hops, again.hops) {
    precondition(hop.server == other.server, "is another server's")
    precondition(hop.hasPassword == other.hasPassword, "has another password")
    precondition(hop.lacksPassword == other.lacksPassword, "lacks another password")
    if !hop.hasPassword { precondition(hop == other, "is another upstream") }
  }
}
