internal import ArgumentParser
internal import Configuration
internal import Daemon
internal import Glibc

struct Flows: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "flows",
    abstract: "List the flows of a running sluice run: whose, where to, how old, how much.",
    discussion: """
      Bytes are those that the client has sent and taken. Programs are those of this host; names of \
      destinations are known from the answers to captured DNS queries. Whoever may use its control socket, \
      root and the group sluice, can ask that.
      """)

  @OptionGroup var control: ControlOptions

  @OptionGroup var choice: FlowChoice

  @Option(help: "Which come first: age or bytes.")
  var sort = "age"

  @Flag(help: "Go on, and tell each second what has changed.")
  var follow = false

  @Flag(help: "Print one JSON object, with --follow one each second (docs/flows.schema.json).")
  var json = false

  func run() throws {
    let command = try FlowsCommand(
      ControlConfiguration(path: control.path), filters: choice.filter, order: sort, isJSON: json)
    guard follow else { return print(try command.run()) }
    try command.follow { line in
      print(line)
      fflush(nil)
    }
  }
}

/// Which flows are meant.
struct FlowChoice: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Those alone of which this is so; several: of which all are. The keys: protocol, stage, scope, client, \
      destination (an address or block), port, name (and all below it), upstream, program, pid, uid.
      """, valueName: "key=value"))
  var filter: [String] = []
}
