internal import ArgumentParser
internal import Configuration

/// Several upstreams at once; shared by all commands that take an upstream.
struct GroupOptions: ParsableArguments {
  @Option(
    name: .customLong("upstream"),
    help: ArgumentHelp(
      "One more upstream, as the first; may be repeated. What the one does not carry goes through another. With a name and = before it, it takes what a --rule sends there, and nothing else.",
      valueName: "url"))
  var furtherUpstreams: [String] = []

  @Option(
    help: ArgumentHelp(
      "How flows are shared out among several upstreams: failover (the first that lives, the default), round-robin, hash (a client stays with one), hash-destination, fastest, or race (several are asked at once, and the first good reply wins).",
      valueName: "how"))
  var balance: String?

  func fill(_ options: inout Options) {
    options.furtherUpstreams = furtherUpstreams
    options.balance = balance
  }
}
