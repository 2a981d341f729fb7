internal import ArgumentParser
internal import Configuration
internal import Daemon
internal import Glibc

struct Rules: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rules",
    abstract: "Show, install or remove the rules without a daemon.",
    subcommands: [Show.self, Diff.self, Apply.self, Confirm.self, Remove.self])

  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "show",
      abstract: "Print the rules as nft text; touches nothing.")

    @OptionGroup var scope: ScopeOptions
    @OptionGroup var file: FileOptions

    func run() throws {
      print(try RulesCommand.text(file.configuration(under: scope.optionsWithEnvironment)))
    }
  }

  struct Diff: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "diff",
      abstract: "Compare the rules in the kernel with those of the flags; touches nothing.",
      discussion: """
        Prints what the kernel has behind -, what the flags would install behind +, and exits with \
        1; with 0 if there is no difference.
        """)

    @OptionGroup var scope: ScopeOptions
    @OptionGroup var file: FileOptions

    func run() throws {
      let configuration = try file.configuration(under: scope.optionsWithEnvironment)
      guard let difference = try RulesCommand.difference(configuration) else {
        print("no difference")
        return
      }
      print(difference)
      throw ExitCode(ExitStatus.different.rawValue)
    }
  }

  struct Apply: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "apply",
      abstract: "Install rules and routes; they stay until removed.")

    @OptionGroup var scope: ScopeOptions
    @OptionGroup var file: FileOptions

    @Option(
      help: ArgumentHelp(
        "Restore what was there before, unless it is confirmed in time that the rules may stay.",
        valueName: "seconds"))
    var confirm: UInt32?

    func validate() throws {
      guard let confirm, !Self.confirmable.contains(confirm) else { return }
      throw ValidationError(
        "--confirm \(confirm): expected \(Self.confirmable.lowerBound) to "
          + "\(Self.confirmable.upperBound) seconds")
    }

    func run() throws {
      let configuration = try file.configuration(under: scope.optionsWithEnvironment)
      guard let confirm else {
        try RulesCommand.apply(configuration)
        return
      }
      try RulesCommand.apply(configuration, confirmedWithin: confirm) { line in
        // Not print: nobody may wait for a buffer to fill.
        let bytes = Array("\(line)\n".utf8)
        _ = write(STDOUT_FILENO, bytes, bytes.count)
      }
    }

    private static let confirmable: ClosedRange<UInt32> = 1...86400
  }

  struct Confirm: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "confirm",
      abstract: "Keep the rules of an apply --confirm that waits.")

    func run() throws { try RulesCommand.confirm() }
  }

  struct Remove: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "remove",
      abstract: "Remove rules and routes that apply, or a killed run, has left.")

    func run() throws { try RulesCommand.remove() }
  }
}
