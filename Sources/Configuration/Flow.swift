package import Addressing

/// A flow that somebody asks about: what it is, and who sends it from where.
package struct Flow: Hashable, Sendable {
  package enum Transport: String, Hashable, Sendable, CaseIterable {
    case tcp
    case udp
    case icmp
  }

  /// As they were written; nil where nothing was said.
  package struct Options: Sendable {
    package var transport: String
    package var destination: String
    package var user: String?
    package var group: String?
    package var controlGroup: String?
    package var source: String?
    package var input: String?
    package var output: String?
    package var hardwareAddress: String?

    package init(transport: String, destination: String) {
      self.transport = transport
      self.destination = destination
    }
  }

  package enum Origin: Hashable, Sendable {
    /// A program of this host; nil: as the one that asks.
    case machine(user: Identity?, group: Identity?, controlGroup: String?)
    /// A host beyond the interface.
    case gateway(input: String, source: IPAddress, HardwareAddress?)
  }

  package let transport: Transport
  package let destination: IPAddress
  /// Zero for `icmp`.
  package let port: UInt16
  package let origin: Origin
  /// Nil: what the routing tables say.
  package let output: String?

  package init(_ options: Options) throws(ConfigurationError) {
    guard let transport = Transport(rawValue: options.transport) else {
      throw ConfigurationError("\(options.transport): expected tcp, udp or icmp")
    }
    self.transport = transport
    (destination, port) = try parseDestination(options.destination, transport)
    output = try options.output.map { (text) throws(ConfigurationError) in
      try parseWholeInterface(text, "--out")
    }
    origin = try Origin(options)
    if case .gateway(_, let source, _) = origin, source.isIPv4 != destination.isIPv4 {
      throw ConfigurationError("--from-address \(source): not of the destination's IP version")
    }
  }
}

extension Flow.Origin {
  fileprivate init(_ options: Flow.Options) throws(ConfigurationError) {
    guard let input = options.input else {
      guard options.source == nil, options.hardwareAddress == nil else {
        throw ConfigurationError(
          "--from-address and --source-mac say who sends what arrives: give its --in INTERFACE, too"
        )
      }
      self = .machine(
        user: try parseOwner(options.user, "--as-uid"),
        group: try parseOwner(options.group, "--as-gid"),
        controlGroup: try options.controlGroup.map { (text) throws(ConfigurationError) in
          try parseControlGroup(text, "--as-cgroup")
        })
      return
    }
    guard options.user == nil, options.group == nil, options.controlGroup == nil else {
      throw ConfigurationError(
        "--as-uid, --as-gid and --as-cgroup are of this host's programs, --in of what arrives: give "
          + "only one of the two")
    }
    guard let source = options.source else {
      throw ConfigurationError(
        "--in \(input): give the sender's address, too: --from-address ADDRESS")
    }
    guard let address = IPAddress(source) else {
      throw ConfigurationError("--from-address \(source): expected an address")
    }
    self = .gateway(
      input: try parseWholeInterface(input, "--in"), source: address,
      try options.hardwareAddress.map { (text) throws(ConfigurationError) in
        try parseHardwareAddress(text, "--source-mac")
      })
  }
}

// MARK: Parsing

/// An address and a port; of ICMP, which has no ports, an address alone.
private func parseDestination(
  _ text: String, _ transport: Flow.Transport
) throws(ConfigurationError) -> (IPAddress, UInt16) {
  switch transport {
  case .tcp, .udp:
    guard let address = SocketAddress(text), address.port > 0 else {
      throw ConfigurationError(
        "\(text): expected an address and a port, such as 203.0.113.7:443 or [2001:db8::7]:443")
    }
    return (address.address, address.port)
  case .icmp:
    guard let address = IPAddress(text) else {
      throw ConfigurationError("\(text): expected an address, such as 203.0.113.7 or 2001:db8::7")
    }
    return (address, 0)
  }
}

/// One user or group.
private func parseOwner(
  _ text: String?, _ flag: String
) throws(ConfigurationError) -> Identity? {
  guard let text else { return nil }
  let identity = try parseIdentity(text, flag)
  if case .numbers(let range) = identity, range.count > 1 {
    throw ConfigurationError("\(flag) \(text): expected one number or name")
  }
  return identity
}

private func parseWholeInterface(
  _ text: String, _ flag: String
) throws(ConfigurationError) -> String {
  guard !text.hasSuffix("*") else {
    throw ConfigurationError("\(flag) \(text): expected the whole name of one interface")
  }
  return try parseInterface(text, flag)
}
