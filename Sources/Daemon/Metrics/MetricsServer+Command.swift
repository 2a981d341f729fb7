internal import Configuration
internal import LinuxIO
internal import Logging

extension MetricsServer {
  /// Nil where none are wanted. Where they cannot be had, the command does not start: somebody counts on them.
  /// - Parameter group: as of `init`.
  static func open(
    at place: MetricsPlace?, group: UInt32
  ) throws(CommandFailure) -> MetricsServer? {
    guard let place else { return nil }
    do {
      return try MetricsServer(at: place, group: group)
    } catch {
      if case .address(let address) = place, error == .addressInUse {
        throw CommandFailure(metrics: address)
      }
      let reason = error == .addressInUse ? "another process answers there" : "\(error)"
      throw CommandFailure("--metrics \(place): \(reason)", .unavailable)
    }
  }

  /// Answers from now on.
  /// - Parameter reading: gives what is answered, with the limits of the server beside its own, on any thread.
  func start(
    _ log: Logger, _ reading: @escaping @Sendable ([RunStatus.Limit]) -> MetricsReading
  ) throws(CommandFailure) {
    try startedUp { () throws(Errno) in
      try start { MetricFamily.text(reading([self.bound]).families) }
    }
    log.info(
      "metrics are at \(place)", metadata: ["event": "metrics", "place": .string("\(place)")])
  }
}
