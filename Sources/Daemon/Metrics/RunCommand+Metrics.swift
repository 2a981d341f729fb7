internal import Configuration
internal import LinuxIO
internal import Logging

extension RunCommand {
  /// Nil where none are wanted. Where they cannot be had, the run does not start: somebody counts on them.
  func openMetrics() throws(CommandFailure) -> MetricsServer? {
    guard let place = configuration.metrics else { return nil }
    do {
      return try MetricsServer(at: place, group: controlGroup)
    } catch {
      if case .address(let address) = place, error == .addressInUse {
        throw CommandFailure(metrics: address)
      }
      let reason = error == .addressInUse ? "another process answers there" : "\(error)"
      throw CommandFailure("--metrics \(place): \(reason)", .unavailable)
    }
  }

  /// Answers from now on.
  /// - Parameter limits: those that the data plane does not know.
  func start(
    _ server: MetricsServer, _ board: StatusBoard,
    _ limits: @escaping @Sendable () -> [RunStatus.Limit]
  ) throws(CommandFailure) {
    try startedUp { () throws(Errno) in
      try server.start {
        MetricFamily.text(board.reading(limits() + [server.bound]).families)
      }
    }
    if let place = configuration.metrics {
      log.info(
        "metrics are at \(place)", metadata: ["event": "metrics", "place": .string("\(place)")])
    }
  }
}
