internal import ArgumentParser
internal import Configuration
internal import Daemon
internal import Glibc

struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Try everything that run would need, and say what is amiss.",
    discussion: """
      Prints one line per check: ok, warning or failure, what was found and what to do. Changes \
      nothing: what has to be tried in the kernel is tried in a network namespace of its own. Without \
      a scope it looks at what --machine needs.
      """)

  @OptionGroup var scope: ScopeOptions

  @OptionGroup var password: PasswordOptions

  @Flag(help: "Print one JSON object per line.")
  var json = false

  func run() throws {
    var options = scope.options
    // Every choice of the machine's traffic implies it anyway.
    if options.gateways.isEmpty { options.machine = true }
    options.passwordFile = password.file
    let log = try StderrLog.logger(level: "warning", isJSON: json)
    try UpstreamSecrets().fill(&options, log: log)
    let status = try DoctorCommand(Configuration(options), isJSON: json).run()
    if status != .done { Glibc.exit(status.rawValue) }
  }
}
