internal import Addressing
internal import Configuration
internal import Glibc
internal import LinuxIO
internal import NFTables
internal import Netfilter

extension Packet {
  /// Where a client's port is chosen by the kernel, one of those that it may choose.
  fileprivate static let clientPort: UInt16 = 49152

  /// The first packet of a flow, with what this host knows about it.
  init(_ flow: Flow) throws(CommandFailure) {
    let kernel = try Self.asking("open a routing socket") { () throws(Errno) in try KernelView() }
    let route: KernelView.Route?
    do {
      route = try kernel.route(to: flow.destination)
    } catch {
      guard flow.output != nil else {
        throw CommandFailure(
          "this host has no route to \(flow.destination) (\(error)), so that no packet is sent: "
            + "give one, or --out INTERFACE to see the rules all the same", .unavailable)
      }
      route = nil
    }
    let unspecified: IPAddress = flow.destination.isIPv4 ? .v4(.any) : .v6(.any)
    switch flow.origin {
    case .machine(let user, let group, let controlGroup):
      self.init(from: route?.source ?? unspecified, to: flow.destination, flow.packetTransport)
      self.user = try Self.number(user, "user", Accounts.user) ?? getuid()
      self.group = try Self.number(group, "group", Accounts.group) ?? getgid()
      controlGroups = try Self.controlGroups(controlGroup)
    case .gateway(let name, let source, let hardwareAddress):
      self.init(from: source, to: flow.destination, flow.packetTransport)
      let found = try Self.asking("look up \(name)") { () throws(Errno) in
        try kernel.interface(named: name)
      }
      // It need not exist yet; it would be made in group 0.
      input = found ?? Packet.Interface(name)
      self.hardwareAddress = hardwareAddress
    }
    destinationType = route?.type
    output = flow.output ?? route?.output
  }

  private static func asking<Value: ~Copyable>(
    _ operation: String, _ ask: () throws(Errno) -> Value
  ) throws(CommandFailure) -> Value {
    do {
      return try ask()
    } catch {
      throw CommandFailure("cannot \(operation): \(error)", .unavailable)
    }
  }

  private static func number(
    _ identity: Identity?, _ kind: String, _ find: (String) -> UInt32?
  ) throws(CommandFailure) -> UInt32? {
    guard let identity else { return nil }
    return try Scope.numbers(identity, kind, find).lowerBound
  }

  /// From level 1 down to the group itself.
  /// - Parameter name: nil: the group of this process; none where there are no control groups.
  private static func controlGroups(_ name: String?) throws(CommandFailure) -> [UInt64] {
    if let name {
      let (groups, path, _) = try Scope.find(controlGroup: name)
      return groups.identifiersDown(to: path)
    }
    // Of version 2: "0::/user.slice/…".
    let line = (readFile("/proc/self/cgroup") ?? "").split(separator: "\n")
      .first { $0.hasPrefix("0::/") }
    guard let line, let groups = ControlGroups() else { return [] }
    return groups.identifiersDown(to: String(line.dropFirst("0::/".count)))
  }
}

extension Flow {
  fileprivate var packetTransport: Packet.Transport {
    switch transport {
    case .tcp: .tcp(source: Packet.clientPort, destination: port, .syn)
    case .udp: .udp(source: Packet.clientPort, destination: port)
    // Echo requests: RFC 792, RFC 4443 section 4.1.
    case .icmp: destination.isIPv4 ? .icmp(type: 8) : .icmpv6(type: 128)
    }
  }
}

extension ControlGroups {
  fileprivate func identifiersDown(to path: String) -> [UInt64] {
    let components = path.split(separator: "/")
    return components.indices.compactMap { last in
      identifier(of: components[...last].joined(separator: "/"))
    }
  }
}
