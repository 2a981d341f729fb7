package import Addressing

/// Where the upstream takes and sends datagrams. Its reply to UDP ASSOCIATE says so (RFC 1928, section
/// 7), and often says something that cannot be reached.
package enum UDPRelay: Hashable, Sendable {
  /// The address that it reports, repaired where that cannot be right.
  case automatic
  /// The address that it reports.
  case reported
  /// The address of the control connection, and the port that it reports.
  case control
  /// This address, and with nil the port that it reports.
  case fixed(IPAddress, port: UInt16?)
}

/// How captured UDP is carried.
package struct Datagrams: Hashable, Sendable {
  /// In seconds, 1 to `Configuration.maximumTimeout`; nil: what the data plane takes.
  package struct Timeouts: Hashable, Sendable {
    /// For a client that nothing came back for.
    package var unreplied: UInt32?
    /// For any other.
    package var established: UInt32?
    /// For a client that has sent nothing but DNS queries.
    package var dns: UInt32?
  }

  package static let maximumAssociations = 1_000_000

  package let relay: UDPRelay
  package internal(set) var timeouts: Timeouts
  /// Clients' ports that are served at once, 1 to `maximumAssociations`; nil: what the data plane takes.
  package let associations: Int?
  /// The same of one client's address.
  package let associationsPerClient: Int?

  init(_ options: Options) throws(ConfigurationError) {
    relay = try options.udpRelay.map(parseRelay) ?? .automatic
    timeouts = Timeouts(
      unreplied: try seconds(options.udpUnrepliedTimeout, "--udp-unreplied-timeout"),
      established: try seconds(options.udpTimeout, "--udp-timeout"),
      dns: try seconds(options.dnsTimeout, "--dns-timeout"))
    associations = try count(options.udpAssociations, "--udp-associations")
    associationsPerClient = try count(options.udpPerClient, "--udp-per-client")
  }
}

// MARK: Parsing

/// A host's address, and a port if one was given.
func parseResolver(_ text: String, _ flag: String) throws(ConfigurationError) -> SocketAddress {
  guard let (address, port) = parseHost(text) else {
    throw ConfigurationError(
      "\(flag) \(text): expected a resolver's address, such as 192.0.2.53, 192.0.2.53:5353 or "
        + "[2001:db8::53]:53")
  }
  return SocketAddress(address, port ?? 53)
}

private func parseRelay(_ text: String) throws(ConfigurationError) -> UDPRelay {
  switch text {
  case "auto": return .automatic
  case "reported": return .reported
  case "control": return .control
  default:
    guard let (address, port) = parseHost(text) else {
      throw ConfigurationError(
        "--udp-relay \(text): expected auto, reported, control, or an address, such as 192.0.2.1 or "
          + "192.0.2.1:1080")
    }
    return .fixed(address, port: port)
  }
}

/// `a.b.c.d`, `v6` or `[v6]`, and `:port` behind the first and the last; nil for anything else, and for
/// what no single host has.
private func parseHost(_ text: String) -> (IPAddress, port: UInt16?)? {
  let bare =
    text.hasPrefix("[") && text.hasSuffix("]") ? text.dropFirst().dropLast() : Substring(text)
  if let address = IPAddress(bare), bare == text || !address.isIPv4 {
    return address.isOfOneHost ? (address, nil) : nil
  }
  guard let address = SocketAddress(text), address.port > 0, address.address.isOfOneHost else {
    return nil
  }
  return (address.address, address.port)
}

extension IPAddress {
  /// Not unspecified, not multicast, and not the limited broadcast (RFC 6890).
  fileprivate var isOfOneHost: Bool {
    !["0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/128", "ff00::/8"]
      .contains { CIDR($0)?.contains(self) ?? false }
  }
}

private func count(_ value: Int?, _ flag: String) throws(ConfigurationError) -> Int? {
  guard let value else { return nil }
  guard (1...Datagrams.maximumAssociations).contains(value) else {
    throw ConfigurationError("\(flag) \(value): expected 1 to \(Datagrams.maximumAssociations)")
  }
  return value
}
