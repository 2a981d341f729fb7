package import Addressing

/// Every setting, checked: what this accepts can be carried out as far as the settings go.
package struct Configuration: Hashable, Sendable {
  /// How TCP is captured.
  package enum Capture: String, Hashable, Sendable, CaseIterable {
    /// NAT to the listener, and SO_ORIGINAL_DST.
    case redirect
    /// Delivery to a transparent socket, without NAT.
    case tproxy
  }

  /// In seconds; 1 to `maximumTimeout`.
  package struct Timeouts: Hashable, Sendable {
    package var connect: UInt32?
    package var handshake: UInt32?
    package var idle: UInt32?
    package var halfClose: UInt32?
    package var drain: UInt32 = 10
  }

  package static let defaultPort: UInt16 = 10880
  package static let maximumTimeout = 30 * 24 * 3600
  package static let maximumWorkers = 256

  package let upstream: UpstreamURL
  /// Whether this host's own traffic is captured.
  package let machine: Bool
  /// Interfaces whose arriving traffic is captured.
  package let gateways: [String]
  /// Nil: what is cheaper in each scope.
  package let tcp: Capture?
  /// The redirect listener's port; the tproxy listener has the next one.
  package let port: UInt16
  package let bypass: [CIDR]
  package let proxyPrivate: Bool
  /// Nil: one per processor.
  package let workers: Int?
  package let timeouts: Timeouts

  package init(_ options: Options) throws(ConfigurationError) {
    let url = options.upstream ?? "embedded"
    do {
      upstream = try UpstreamURL(url)
    } catch {
      // Where there may be a password, the text is not repeated.
      throw ConfigurationError(url.contains("@") ? "\(error)" : "\(url): \(error)")
    }
    machine = options.machine
    for name in options.gateways { try checkInterface(name) }
    gateways = options.gateways
    guard machine || !gateways.isEmpty else {
      throw ConfigurationError(
        "nothing to capture: give --machine for this host's own traffic, --gateway INTERFACE for "
          + "what arrives from a LAN, or both")
    }
    tcp = try options.tcp.map { (text) throws(ConfigurationError) in
      guard let capture = Capture(rawValue: text) else {
        throw ConfigurationError("--tcp \(text): expected redirect or tproxy")
      }
      return capture
    }
    let port = options.port ?? Int(Self.defaultPort)
    guard (1...65534).contains(port) else {
      throw ConfigurationError(
        "--port \(port): expected 1 to 65534, since the port after it is used too")
    }
    self.port = UInt16(port)
    var bypass: [CIDR] = []
    for text in options.bypass {
      guard let block = CIDR(text) else {
        throw ConfigurationError(
          "--bypass \(text): expected an address or a block without host bits, such as "
            + "203.0.113.0/24 or 2001:db8::/32")
      }
      bypass.append(block)
    }
    self.bypass = bypass
    proxyPrivate = options.proxyPrivate
    if let workers = options.workers, !(1...Self.maximumWorkers).contains(workers) {
      throw ConfigurationError("--workers \(workers): expected 1 to \(Self.maximumWorkers)")
    }
    workers = options.workers
    var timeouts = Timeouts()
    timeouts.connect = try seconds(options.connectTimeout, "--connect-timeout")
    timeouts.handshake = try seconds(options.handshakeTimeout, "--handshake-timeout")
    timeouts.idle = try seconds(options.idleTimeout, "--idle-timeout")
    timeouts.halfClose = try seconds(options.halfCloseTimeout, "--half-close-timeout")
    if let drain = options.drainTimeout, drain == 0 {
      timeouts.drain = 0
    } else if let drain = try seconds(options.drainTimeout, "--drain-timeout") {
      timeouts.drain = drain
    }
    self.timeouts = timeouts
  }
}

/// An interface name as the kernel takes it: 1 to 15 bytes, no space, slash or colon, not "." or
/// ".." (`dev_valid_name` in net/core/dev.c), and no quotation mark, which nft text could not carry.
private func checkInterface(_ name: String) throws(ConfigurationError) {
  let isValid =
    (1...15).contains(name.utf8.count) && name != "." && name != ".."
    && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && !"/:\"*".utf8.contains($0) }
  guard isValid else {
    throw ConfigurationError("--gateway \(name): not an interface name (see ip link)")
  }
}

private func seconds(_ value: Int?, _ flag: String) throws(ConfigurationError) -> UInt32? {
  guard let value else { return nil }
  guard (1...Configuration.maximumTimeout).contains(value) else {
    throw ConfigurationError(
      "\(flag) \(value): expected seconds, 1 to \(Configuration.maximumTimeout)")
  }
  return UInt32(value)
}
