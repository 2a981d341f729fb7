internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Rules: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show, install or remove the rules without a daemon.",
    subcommands: [Show.self, Apply.self, Remove.self])

  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Print the rules as nft text; touches nothing.")

    @OptionGroup var scope: ScopeOptions

    func run() throws {
      print(try RulesCommand.text(Configuration(scope.options)))
    }
  }

  struct Apply: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Install rules and routes; they stay until removed.")

    @OptionGroup var scope: ScopeOptions

    func run() throws { try RulesCommand.apply(Configuration(scope.options)) }
  }

  struct Remove: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Remove rules and routes that apply, or a killed run, has left.")

    func run() throws { try RulesCommand.remove() }
  }
}
