package import Configuration

/// `sluice drain`: ends a run of this host.
package struct DrainCommand {
  private let configuration: ControlConfiguration
  private let timeout: UInt32?

  /// - Parameter timeout: seconds for open flows to end; nil: what the run has settled.
  package init(_ configuration: ControlConfiguration, timeout: UInt32?) {
    self.configuration = configuration
    self.timeout = timeout
  }

  /// Blocks until flows have ended, or the time is up.
  package func run() throws(CommandFailure) {
    var client = try ControlClient(configuration.path)
    guard case .draining = try client.ask(.drain(timeout: timeout)) else {
      throw client.misunderstood
    }
    client.waitForEnd()
  }
}
