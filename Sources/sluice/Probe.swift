internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Probe: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "probe",
    abstract: "Find out what an upstream is able to do; needs no privilege.",
    discussion: """
      Asks it, on connections of its own, for connections by IPv4, IPv6 and name, for UDP and for BIND, \
      and tries what it makes of a handshake in one write, of bytes that come early and of a client that \
      stops sending. Takes ten seconds at most.
      """)

  @Argument(
    help: ArgumentHelp(
      "The server, as of run: socks5://[user[:password]@]host[:port], or any other URL or chain.",
      discussion: "Without it SLUICE_UPSTREAM of the environment is used."))
  var upstream: String?

  @Option(
    help: ArgumentHelp(
      "Whom it is to connect to: an IPv4 address, an IPv6 address and a name may be given, each with a port (default: the resolver, else Quad9).",
      valueName: "host:port"))
  var target: [String] = []

  @Option(
    help: ArgumentHelp(
      "Whom it is to ask by UDP and TCP (default: a resolver of this host's that everybody can reach, else Quad9).",
      valueName: "address[:port]"))
  var dnsServer: String?

  @OptionGroup var password: PasswordOptions

  @Flag(help: "Print one JSON object.")
  var json = false

  func run() throws {
    var options = Options()
    options.upstream = upstream
    options.dnsServer = dnsServer
    // Something has to be captured by those who capture.
    options.machine = true
    options.passwordFile = password.file
    let log = try StderrLog.logger(level: "warning", isJSON: json)
    try UpstreamSecrets().fill(&options, log: log)
    let configuration = try Configuration(options)
    let targets = try ProbeTargets(target, resolver: configuration.dnsServer)
    try ProbeCommand(configuration, targets, isJSON: json).run()
  }
}
