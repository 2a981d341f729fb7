internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Explain: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say which rule decides over a flow, and why; touches nothing.",
    discussion: """
      The flow is that of a program of this host, as which --as-uid, --as-gid and --as-cgroup tell, \
      or with --in one that arrives from a LAN. The other options say what is captured, as for run.
      """)

  @Argument(help: "tcp, udp or icmp (its echo request).")
  var transport: String

  @Argument(
    help: ArgumentHelp("Where it goes: address:port, for icmp an address.", valueName: "address"))
  var destination: String

  @Option(
    name: .customLong("as-uid"),
    help: ArgumentHelp("Who sends it: name or number (default: you).", valueName: "user"))
  var user: String?

  @Option(
    name: .customLong("as-gid"), help: ArgumentHelp("The same by group.", valueName: "group"))
  var group: String?

  @Option(
    name: .customLong("as-cgroup"),
    help: ArgumentHelp("The same by control group: a path, or a systemd unit.", valueName: "cgroup")
  )
  var controlGroup: String?

  @Option(
    name: .customLong("in"),
    help: ArgumentHelp("It arrives here; with --from-address.", valueName: "interface"))
  var input: String?

  @Option(
    name: .customLong("from-address"),
    help: ArgumentHelp("Who sends what arrives.", valueName: "address"))
  var source: String?

  @Option(
    name: .customLong("source-mac"),
    help: ArgumentHelp("Hardware address of who sends what arrives.", valueName: "mac"))
  var hardwareAddress: String?

  @Option(
    name: .customLong("out"),
    help: ArgumentHelp(
      "It would leave here (default: as the routing tables say).", valueName: "interface"))
  var output: String?

  @OptionGroup var scope: ScopeOptions

  @Flag(help: "Ask for the time in which Sluice does not run.")
  var stopped = false

  @Flag(help: "Print one JSON object.")
  var json = false

  func run() throws {
    var flow = Flow.Options(transport: transport, destination: destination)
    flow.user = user
    flow.group = group
    flow.controlGroup = controlGroup
    flow.input = input
    flow.source = source
    flow.hardwareAddress = hardwareAddress
    flow.output = output
    let command = try ExplainCommand(
      Configuration(scope.options), Flow(flow), isRunning: !stopped)
    print(json ? command.json : command.text)
  }
}
