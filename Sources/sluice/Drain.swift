internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Drain: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "drain",
    abstract: "End a running sluice run: nothing new is captured, open flows get time to finish.",
    discussion: """
      Returns when they have, or the time is up; then the run takes its rules away and ends, as after \
      SIGTERM. Whoever may use its control socket, root and the group sluice, can do that.
      """)

  @OptionGroup var control: ControlOptions

  @Option(
    help: ArgumentHelp(
      "For open flows to finish, 0 for none (default: the run's --drain-timeout).",
      valueName: "seconds"))
  var timeout: Int?

  func run() throws {
    try DrainCommand(
      ControlConfiguration(path: control.path),
      timeout: try ControlConfiguration.drainTimeout(timeout)
    ).run()
  }
}
