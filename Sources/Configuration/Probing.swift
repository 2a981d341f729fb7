package import Addressing

/// How it is found out, beside what flows tell, whether upstreams live.
package struct Probing: Hashable, Sendable {
  package enum Interval: Hashable, Sendable {
    /// What suits the way in which upstreams are chosen.
    case usual
    /// An upstream that is taken to live is not asked but for what flows tell of it.
    case off
    /// 1 to `Configuration.maximumTimeout`.
    case seconds(UInt32)
  }

  package static let maximumFailures = 100

  package let interval: Interval
  /// What an upstream is asked to connect to; nil: its own host, of which any reply will do.
  package let target: Endpoint?
  /// Seconds, for a connection and again for the handshake; nil: as long as a flow's connection may take.
  package let timeout: UInt32?
  /// So many without an answer between them mean that it is down.
  package let failures: Int

  /// Whether the user wants even a lone upstream to be watched.
  package var isWanted: Bool {
    switch interval {
    case .seconds: true
    case .usual: target != nil
    case .off: false
    }
  }

  init(_ options: Options) throws(ConfigurationError) {
    interval = try Self.interval(options.probeInterval)
    if let text = options.probeTarget {
      guard let endpoint = Endpoint(text), endpoint.port > 0 else {
        throw ConfigurationError(
          "--probe-target \(text): expected a host and a port, such as 192.0.2.7:443, "
            + "[2001:db8::7]:443 or example.com:443")
      }
      target = endpoint
    } else {
      target = nil
    }
    timeout = try seconds(options.probeTimeout, "--probe-timeout")
    failures = options.probeFailures ?? 1
    guard (1...Self.maximumFailures).contains(failures) else {
      throw ConfigurationError(
        "--probe-failures \(failures): expected 1 to \(Self.maximumFailures)")
    }
  }

  private static func interval(_ text: String?) throws(ConfigurationError) -> Interval {
    switch text {
    case nil: return .usual
    case "off": return .off
    case let text?:
      guard let value = UInt32(text), (1...Configuration.maximumTimeout).contains(Int(value)) else {
        throw ConfigurationError(
          "--probe-interval \(text): expected seconds, 1 to \(Configuration.maximumTimeout), or off"
        )
      }
      return .seconds(value)
    }
  }
}
