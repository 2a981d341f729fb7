package import Configuration
internal import LinuxIO

/// `sluice reload`: has a run of this host read its settings and lists again, as SIGHUP does.
package struct ReloadCommand {
  /// For the run to look names up and to ask upstreams, which may all be silent.
  private static let patience = Timeout.seconds(120)

  private let configuration: ControlConfiguration
  private let isJSON: Bool

  package init(_ configuration: ControlConfiguration, isJSON: Bool) {
    self.configuration = configuration
    self.isJSON = isJSON
  }

  /// What it prints: a line or two, or one of JSON. Settings that cannot be used are a failure, unless
  /// that is to be told in JSON, and settings that take a restart have a status of their own.
  package func run() throws(CommandFailure) -> (text: String, status: ExitStatus) {
    var client = try ControlClient(configuration.path)
    guard case .reload(let outcome) = try client.ask(.reload, patience: Self.patience) else {
      throw client.misunderstood
    }
    if let problem = outcome.problem, !isJSON {
      throw CommandFailure("the run goes on as before: \(problem)", .usage)
    }
    let status: ExitStatus =
      outcome.problem != nil ? .usage : outcome.restart.isEmpty ? .done : .different
    return (isJSON ? String(decoding: outcome.line, as: UTF8.self) : "\(outcome)", status)
  }
}
