internal import ArgumentParser
internal import Configuration
internal import Daemon
internal import Glibc

struct Top: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "top",
    abstract: "Watch the flows of a running sluice run on a whole screen.",
    discussion: """
      Keys: up, down and page keys select a flow; k ends it, after a question; s sorts by age or by bytes; q \
      ends. Whoever may use its control socket, root and the group sluice, can do that.
      """)

  @OptionGroup var control: ControlOptions

  @OptionGroup var choice: FlowChoice

  func run() throws {
    let variables = ["LC_ALL", "LC_CTYPE", "LANG"]
    let locale = variables.lazy.compactMap { name in
      getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }.first
    try TopCommand(
      ControlConfiguration(path: control.path), filters: choice.filter, locale: locale
    ).run()
  }
}
