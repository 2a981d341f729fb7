internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Kill: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kill",
    abstract: "End flows of a running sluice run, as if both sides had reset them.",
    discussion: """
      An ID never stands for another flow: of one that is over, nothing is ended. The next datagram of a \
      client whose flow was one of datagrams begins another. Whoever may use its control socket, root and the \
      group sluice, can do that.
      """)

  @OptionGroup var control: ControlOptions

  @OptionGroup var choice: FlowChoice

  @Argument(help: ArgumentHelp("Which, as sluice flows tells them.", valueName: "id"))
  var flows: [String] = []

  func run() throws {
    print(
      try KillCommand(
        ControlConfiguration(path: control.path), flows: flows, filters: choice.filter
      ).run())
  }
}
