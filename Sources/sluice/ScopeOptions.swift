internal import ArgumentParser
internal import Configuration

/// What is captured and where it goes; shared by `run` and `rules`.
struct ScopeOptions: ParsableArguments {
  @Argument(
    help: ArgumentHelp(
      "Where captured traffic goes: socks5://[user:password@]host[:port], or embedded.",
      discussion: "Without it the embedded SOCKS5 server is used, which connects directly."))
  var upstream: String?

  @Flag(help: "Capture this host's own TCP.")
  var machine = false

  @Option(
    name: .customLong("gateway"),
    help: ArgumentHelp("Capture TCP that arrives on this interface.", valueName: "interface"))
  var gateways: [String] = []

  @Option(
    help: ArgumentHelp(
      "How TCP is captured: redirect or tproxy (default: tproxy).",
      valueName: "how"))
  var tcp: String?

  @Option(
    help: ArgumentHelp(
      "Local port of the redirect listener; the tproxy listener has the next one (default: \(Configuration.defaultPort)).",
      valueName: "port"))
  var port: Int?

  @Option(
    help: ArgumentHelp(
      "Leave connections to this address or block alone, besides private and special ranges.",
      valueName: "cidr"))
  var bypass: [String] = []

  @Flag(help: "Capture connections to private ranges too.")
  var proxyPrivate = false

  /// The raw settings, for `Configuration` to check.
  var options: Options {
    var options = Options()
    options.upstream = upstream
    options.machine = machine
    options.gateways = gateways
    options.tcp = tcp
    options.port = port
    options.bypass = bypass
    options.proxyPrivate = proxyPrivate
    return options
  }
}
