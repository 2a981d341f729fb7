internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Check: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract:
      "Say whether a configuration file is valid, and what is wrong with it; touches nothing.",
    discussion:
      "Each fault is told as FILE:LINE:COLUMN. Exit status 0 if the file can be run as it is, else 64."
  )

  @Argument(help: "The file.")
  var file: String?

  @Flag(help: "Print the JSON Schema of such files, for editors.")
  var schema = false

  func validate() throws {
    guard schema == (file == nil) else { throw ValidationError("give a file, or --schema") }
  }

  func run() throws {
    guard let file else {
      print(SettingsFile.schema)
      return
    }
    let settings = try SettingsFile(file)
    _ = try settings.configuration(settings.options(under: Options()))
    print("\(file): valid")
  }
}
