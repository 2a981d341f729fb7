internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Capture and relay in the foreground; everything is restored at exit.",
    discussion: """
      SIGINT or SIGTERM ends it: open connections get time to finish, a second signal ends them at \
      once. SIGHUP reads the files of blocks again. SIGUSR1 prints the present state.
      """)

  @OptionGroup var scope: ScopeOptions
  @OptionGroup var logging: LogOptions

  @Option(
    help: ArgumentHelp("Threads that relay (default: one per processor).", valueName: "count"))
  var workers: Int?

  @Option(
    help: ArgumentHelp("For the connection to the upstream (default: 10).", valueName: "seconds"))
  var connectTimeout: Int?

  @Option(help: ArgumentHelp("For the upstream's reply (default: 60).", valueName: "seconds"))
  var handshakeTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "For a flow without a byte either way (default: 7440).", valueName: "seconds"))
  var idleTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "For a flow without a byte after one side has ended (default: 600).", valueName: "seconds"))
  var halfCloseTimeout: Int?

  @Option(
    help: ArgumentHelp("For open flows to finish at exit (default: 10).", valueName: "seconds"))
  var drainTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "While the upstream is down: everything goes directly (open), or what is captured is reset (closed, the default).",
      valueName: "how"))
  var onUpstreamDown: String?

  func run() throws {
    var options = scope.options
    options.onUpstreamDown = onUpstreamDown
    options.workers = workers
    options.connectTimeout = connectTimeout
    options.handshakeTimeout = handshakeTimeout
    options.idleTimeout = idleTimeout
    options.halfCloseTimeout = halfCloseTimeout
    options.drainTimeout = drainTimeout
    try RunCommand(Configuration(options), log: logging.logger()).run()
  }
}
