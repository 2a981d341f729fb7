internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Capture and relay in the foreground; everything is restored at exit.",
    discussion: """
      SIGINT or SIGTERM ends it: open connections get time to finish, a second signal ends them at \
      once. SIGHUP reads the settings and lists again. SIGUSR1 prints the present state. SIGUSR2 \
      leaves everything to the next run, if a service manager keeps the listeners meanwhile.
      """)

  @OptionGroup var scope: ScopeOptions
  @OptionGroup var file: FileOptions
  @OptionGroup var password: PasswordOptions
  @OptionGroup var logging: LogOptions

  @OptionGroup var engine: EngineOptions

  @Option(
    help: ArgumentHelp("For open flows to finish at exit (default: 10).", valueName: "seconds"))
  var drainTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "While the upstream is down: everything goes directly (open), or what is captured is reset (closed, the default).",
      valueName: "how"))
  var onUpstreamDown: String?

  @Option(
    help: ArgumentHelp(
      "Where other commands reach this one: the path of a socket, or none (default: \(Configuration.defaultControl)).",
      valueName: "path"))
  var control: String?

  @Option(
    help: ArgumentHelp(
      "Who may use that beside root (default: sluice, if there is such a group).",
      valueName: "group"))
  var controlGroup: String?

  @Option(
    help: ArgumentHelp(
      "Where Prometheus reads metrics: unix:PATH, 127.0.0.1:PORT or [::1]:PORT (default: nowhere).",
      valueName: "place"))
  var metrics: String?

  func run() throws {
    let secrets = UpstreamSecrets()
    var options = scope.options
    engine.fill(&options)
    options.drainTimeout = drainTimeout
    options.onUpstreamDown = onUpstreamDown
    options.control = control
    options.controlGroup = controlGroup
    options.metrics = metrics
    options.passwordFile = password.file
    let log = try logging.logger()
    secrets.fillUpstream(&options)
    let flags = options
    let read = {
      try file.configuration(under: flags) { options in try secrets.fill(&options, log: log) }
    }
    try RunCommand(try read(), readAgain: read, log: log).run()
  }

  /// Whether these arguments of the program are those of a run, but for its name.
  static func couldBeMeant(by arguments: [String]) -> Bool {
    guard let first = arguments.dropFirst().first else { return false }
    return (first.hasPrefix("-") || first.contains("://"))
      && (try? parse(Array(arguments.dropFirst()))) != nil
  }
}
