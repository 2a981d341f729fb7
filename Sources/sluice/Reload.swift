internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Reload: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reload",
    abstract: "Have a running sluice run read its settings and lists again.",
    discussion: """
      As SIGHUP does, and says what has come of it: which settings are in force now, and which take a \
      restart (exit status 1). Settings that cannot be used change nothing (64). Whoever may use its \
      control socket, root and the group sluice, can do that.
      """)

  @OptionGroup var control: ControlOptions

  @Flag(help: "Print one JSON object.")
  var json = false

  func run() throws {
    let (text, status) = try ReloadCommand(
      ControlConfiguration(path: control.path), isJSON: json
    ).run()
    print(text)
    if status != .done { throw ExitCode(status.rawValue) }
  }
}
