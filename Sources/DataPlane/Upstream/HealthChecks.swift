package import Addressing
package import LinuxIO

/// How upstreams are asked whether they live, beside what flows find out.
package struct HealthChecks: Sendable {
  package enum Interval: Hashable, Sendable {
    /// As often as the choice among them needs.
    case usual
    /// Not at all while they are taken to live, unless a flow has made them doubtful.
    case never
    case every(Timeout)
  }

  package var interval = Interval.usual
  /// What they are asked to connect to; nil: their own host, of which any reply will do.
  package var target: Endpoint?
  /// For a connection, and again for the handshake; nil: as long as a flow's connection may take.
  package var timeout: Timeout?
  /// So many without an answer between them mean that one is down.
  package var tolerance = 1

  package init() {}

  /// Between two questions to one that lives; nil: never.
  /// - Parameter usual: where nobody has chosen.
  package func interval(orUsual usual: Timeout) -> Timeout? {
    switch interval {
    case .usual: usual
    case .never: nil
    case .every(let timeout): timeout
    }
  }
}

/// What came of asking an upstream whether it lives.
package struct HealthRecord: Hashable, Sendable {
  package let time: Instant
  /// Why flows do not get through; nil if they do.
  package let failure: Failure?
  package let milliseconds: UInt64
}
