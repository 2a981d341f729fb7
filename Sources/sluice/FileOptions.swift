internal import ArgumentParser
internal import Configuration
internal import Daemon

/// A file with settings, for commands that take those of `run`.
struct FileOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "YAML file with settings, whose names are those of the options; what the options say wins.",
      valueName: "file"))
  var config: String?

  /// All settings.
  /// - Parameter complete: fills in what comes from elsewhere, when the options and the file are known.
  func configuration(
    under flags: Options, complete: (inout Options) throws -> Void = { _ in }
  ) throws -> Configuration {
    let file = try SettingsFile(config)
    var options = file.options(under: flags)
    try complete(&options)
    return try file.configuration(options)
  }
}
