package import Configuration

/// `sluice status`: what a run of this host says of itself.
package struct StatusCommand {
  private let configuration: ControlConfiguration
  private let isJSON: Bool

  package init(_ configuration: ControlConfiguration, isJSON: Bool) {
    self.configuration = configuration
    self.isJSON = isJSON
  }

  /// What it prints: a few lines, or one of JSON.
  package func run() throws(CommandFailure) -> String {
    var client = try ControlClient(configuration.path)
    guard case .status(let status) = try client.ask(.status) else { throw client.misunderstood }
    return isJSON ? String(decoding: status.line, as: UTF8.self) : "\(status)"
  }
}
