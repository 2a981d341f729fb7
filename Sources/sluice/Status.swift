internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Say how a running sluice run is: upstreams, flows, rates, failures, rules, limits.",
    discussion: "Whoever may use its control socket, root and the group sluice, can ask that.")

  @OptionGroup var control: ControlOptions

  @Flag(help: "Print one JSON object.")
  var json = false

  func run() throws {
    print(try StatusCommand(ControlConfiguration(path: control.path), isJSON: json).run())
  }
}

/// Which run is meant.
struct ControlOptions: ParsableArguments {
  @Option(
    name: .customLong("control"),
    help: ArgumentHelp(
      "Where that has its control socket (default: \(Configuration.defaultControl)).",
      valueName: "path"))
  var path: String?
}
