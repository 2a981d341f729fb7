internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Explain: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "explain",
    abstract: "Say which rule decides over a flow, and why; touches nothing.",
    discussion: """
      Without --machine and --gateway it asks the rules that are in force. The flow is that of a \
      program of this host, as which --uid, --gid and --cgroup tell, or with --in one that arrives \
      from a LAN, --from an address and a --mac.

      With --machine or --gateway, and options as for run, it asks the rules that those would make, \
      whose choices these options are then: --as-uid, --as-gid, --as-cgroup, --from-address and \
      --source-mac tell of the flow.
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
    let isInForce = !scope.machine && scope.gateways.isEmpty
    if isInForce {
      try checkNoPolicy()
    }
    var flow = Flow.Options(transport: transport, destination: destination)
    flow.user = user ?? (isInForce ? scope.users.last : nil)
    flow.group = group ?? (isInForce ? scope.groups.last : nil)
    flow.controlGroup = controlGroup ?? (isInForce ? scope.controlGroups.last : nil)
    flow.input = input
    flow.source = source ?? (isInForce ? scope.sources.last : nil)
    flow.hardwareAddress = hardwareAddress ?? (isInForce ? scope.hardwareAddresses.last : nil)
    flow.output = output
    let command =
      isInForce
      ? try ExplainCommand(inForce: Flow(flow))
      : try ExplainCommand(
        Configuration(scope.optionsWithEnvironment), Flow(flow), isRunning: !stopped)
    print(json ? command.json : command.text)
  }

  /// What is in force has its policy: options that say what would be captured make no sense.
  private func checkNoPolicy() throws {
    var options = scope.options
    (options.users.only, options.groups.only) = ([], [])
    (options.controlGroups.only, options.sources.only) = ([], [])
    options.hardwareAddresses.only = []
    guard options == Options() else {
      throw ValidationError(
        "without --machine or --gateway the rules in force are asked: give one, or leave out what "
          + "else says what is captured")
    }
    if stopped { throw ValidationError("--stopped goes with --machine or --gateway") }
  }
}
