internal import Addressing
internal import Configuration
internal import DataPlane
internal import LinuxIO
internal import NFTables
internal import RedirectPolicy

/// From settings to the rules that capture and the listeners that receive what they capture.
struct Scope {
  var policy: RedirectPolicy
  /// What the user should know of it, one line; nil if nothing.
  private(set) var note: String?

  /// The scope of a policy that is there already.
  init(_ policy: RedirectPolicy) { self.policy = policy }

  /// Looks up what the settings name: users, groups, control groups, files.
  /// - Parameters:
  ///   - upstreams: all addresses of the upstream.
  ///   - surroundings: what to give way to.
  init(
    _ configuration: Configuration, upstreams: [IPAddress],
    in surroundings: Surroundings = .current()
  ) throws(CommandFailure) {
    policy = RedirectPolicy(upstreams: upstreams)
    let capture = Self.capture(configuration.tcp)
    if let selection = configuration.machine {
      policy.machine = try Self.machine(selection, capture)
    }
    if let selection = configuration.gateway {
      policy.gateway = try gateway(selection, configuration, in: surroundings)
    }
    policy.numbers = surroundings.numbers
    policy.ports = RedirectPolicy.Ports(
      redirect: configuration.port, tproxy: configuration.port + 1)
    policy.destinations = try Self.destinations(configuration.destinations)
    policy.exit = configuration.onExit == .closed ? .closed : .open
    policy.uncaptured = Self.uncaptured(configuration.uncaptured, policy.exit)
    policy.rejectsQUIC = configuration.quic == .reject
    policy.dns = Self.dns(configuration)
    if policy.exit == .closed {
      policy.services = SocketOwner.listeningPorts().map { $0...$0 }
    }
  }

  /// `tproxy` is the cheaper one in either scope: no address translation. Per short connection
  /// `redirect` takes 1.1 times the CPU of the whole system for a machine's own traffic, and as much
  /// or a little more for a LAN's.
  private static func capture(_ choice: Configuration.Capture?) -> RedirectPolicy.Capture {
    switch choice {
    case .redirect: .redirect
    case .tproxy, nil: .tproxy
    }
  }

  // MARK: Selections

  private static func machine(
    _ selection: MachineSelection, _ capture: RedirectPolicy.Capture
  ) throws(CommandFailure) -> RedirectPolicy.Machine {
    var machine = RedirectPolicy.Machine(capture)
    machine.users = try look(up: selection.users) { (identity) throws(CommandFailure) in
      try numbers(identity, "user", Accounts.user)
    }
    machine.groups = try look(up: selection.groups) { (identity) throws(CommandFailure) in
      try numbers(identity, "group", Accounts.group)
    }
    machine.controlGroups = try look(up: selection.controlGroups, controlGroup)
    machine.outputInterfaces = try look(up: selection.outputInterfaces) { $0 }
    return machine
  }

  private mutating func gateway(
    _ selection: GatewaySelection, _ configuration: Configuration, in surroundings: Surroundings
  ) throws(CommandFailure) -> RedirectPolicy.Gateway {
    var gateway = RedirectPolicy.Gateway(
      Self.capture(configuration.tcp), interfaces: selection.interfaces,
      interfaceGroups: selection.interfaceGroups)
    if let bridge = surroundings.filteredBridge(of: gateway) {
      let udp = configuration.uncaptured.udp
      for (flag, other, isChosen) in [
        ("--tcp tproxy", "--tcp redirect", configuration.tcp == .tproxy),
        ("--udp proxy", "--udp reject", udp == .proxy),
      ] where isChosen {
        throw CommandFailure(
          "tproxy, which \(flag) needs, loses what arrives on the bridge \(bridge) under br_netfilter: "
            + "use \(other), or set net.bridge.bridge-nf-call-iptables to 0", .unavailable)
      }
      gateway.capture = .redirect
      gateway.losesDatagrams = true
      let loss: String? =
        switch udp {
        case nil: "UDP that arrives on the bridge \(bridge) is rejected"
        case .bypass where configuration.dns != .off:
          "DNS that arrives on the bridge \(bridge) by UDP is not captured"
        case .bypass, .reject, .proxy: nil
        }
      note = loss.map {
        "\($0), since br_netfilter makes tproxy lose it: to have it captured, set "
          + "net.bridge.bridge-nf-call-iptables to 0"
      }
    }
    gateway.sources = RedirectPolicy.Choice(
      only: selection.sources.only, except: selection.sources.except)
    gateway.hardwareAddresses = RedirectPolicy.Choice(
      only: selection.hardwareAddresses.only, except: selection.hardwareAddresses.except)
    return gateway
  }

  /// Reads the files that the settings name.
  static func destinations(
    _ selection: DestinationSelection
  ) throws(CommandFailure) -> RedirectPolicy.Destinations {
    var destinations = RedirectPolicy.Destinations()
    destinations.bypass = selection.bypass
    for path in selection.bypassFiles { destinations.bypass += try blocks(in: path) }
    if selection.isList {
      var only = selection.only
      for path in selection.onlyFiles { only += try blocks(in: path) }
      destinations.only = only
    }
    destinations.bypassPorts = selection.bypassPorts
    destinations.onlyPorts = selection.onlyPorts
    destinations.includesPrivate = selection.proxyPrivate
    return destinations
  }

  private static func uncaptured(
    _ configured: Configuration.Uncaptured, _ exit: RedirectPolicy.Exit
  ) -> RedirectPolicy.Uncaptured {
    func treatment(_ value: Configuration.Treatment?) -> RedirectPolicy.Treatment {
      switch value {
      case .bypass: .bypass
      case .reject: .reject
      case nil: exit == .closed ? .reject : .bypass
      }
    }
    /// Whether the upstream can carry it is found out later.
    func treatment(_ value: Configuration.ProxyTreatment?) -> RedirectPolicy.Treatment? {
      switch value {
      case .bypass: .bypass
      case .reject: .reject
      case .proxy, nil: nil
      }
    }
    var uncaptured = RedirectPolicy.Uncaptured(.bypass)
    uncaptured.udp = treatment(configured.udp)
    uncaptured.icmp = treatment(configured.icmp)
    uncaptured.other = treatment(configured.other)
    uncaptured.ipv6 = treatment(configured.ipv6)
    return uncaptured
  }

  private static func dns(_ configuration: Configuration) -> RedirectPolicy.DNSCapture {
    switch configuration.dns {
    case .off: .none
    case .udp, .tcp, nil: configuration.dnsServer == nil ? .selected : .everywhere
    }
  }

  // MARK: Look-ups

  private static func look<Text, Element: Hashable>(
    up choice: Choice<Text>, _ find: (Text) throws(CommandFailure) -> Element
  ) throws(CommandFailure) -> RedirectPolicy.Choice<Element> {
    var found = RedirectPolicy.Choice<Element>()
    for text in choice.only { found.only.append(try find(text)) }
    for text in choice.except { found.except.append(try find(text)) }
    return found
  }

  static func numbers(
    _ identity: Identity, _ kind: String, _ find: (String) -> UInt32?
  ) throws(CommandFailure) -> ClosedRange<UInt32> {
    switch identity {
    case .numbers(let range): return range
    case .name(let name):
      guard let number = find(name) else {
        throw CommandFailure(
          "there is no \(kind) \(name) here: check the name, or give its number", .usage)
      }
      return number...number
    }
  }

  private static func controlGroup(_ name: String) throws(CommandFailure) -> ControlGroup {
    let (groups, path, identifier) = try find(controlGroup: name)
    return ControlGroup(
      path: groups.pathForRules(path), level: UInt32(path.split(separator: "/").count),
      identifier: identifier)
  }

  /// - Parameter name: a path below the root, or the name of a systemd unit.
  static func find(
    controlGroup name: String
  ) throws(CommandFailure) -> (ControlGroups, path: String, identifier: UInt64) {
    guard let groups = ControlGroups() else {
      throw CommandFailure(
        "control groups of version 2 are not mounted: mount -t cgroup2 none /sys/fs/cgroup",
        .unavailable)
    }
    var path = name
    if groups.identifier(of: path) == nil, !name.contains("/"),
      let unit = groups.path(ofName: name)
    {
      path = unit
    }
    guard let identifier = groups.identifier(of: path) else {
      throw CommandFailure(
        "there is no control group \(name) below \(groups.mountPoint): start the unit first, or name "
          + "the slice that it runs in", .usage)
    }
    return (groups, path, identifier)
  }

  private static func blocks(in path: String) throws(CommandFailure) -> [CIDR] {
    guard let text = readFile(path) else {
      throw CommandFailure("cannot read \(path): check that it exists and may be read", .usage)
    }
    do {
      return try BlockList.parse(text, path: path)
    } catch {
      throw CommandFailure("\(error)", .usage)
    }
  }

  // MARK: Listeners

  /// Where the rules send what they capture. `tproxy` and a local `redirect` lead to loopback; a
  /// `redirect` of a LAN's traffic leads to the address of the interface where it arrived.
  var listeners: [ListenerConfiguration] {
    var listeners: [ListenerConfiguration] = []
    let captures = [policy.machine?.capture, policy.gateway?.capture]
    if captures.contains(.redirect) {
      let isLocal = policy.gateway?.capture != .redirect
      let hosts: [IPAddress] =
        isLocal ? [.v4(.loopback), .v6(.loopback)] : [.v4(.any), .v6(.any)]
      listeners += hosts.map {
        ListenerConfiguration(.redirect, on: SocketAddress($0, policy.ports.redirect))
      }
    }
    if captures.contains(.tproxy) {
      listeners += [IPAddress.v4(.loopback), .v6(.loopback)].map {
        ListenerConfiguration(.tproxy, on: SocketAddress($0, policy.ports.tproxy))
      }
    }
    return listeners
  }

  /// Where the rules send captured UDP: to loopback, by `tproxy`.
  var datagramAddresses: [SocketAddress] {
    guard policy.capturesDatagrams else { return [] }
    return [IPAddress.v4(.loopback), .v6(.loopback)].map { SocketAddress($0, policy.ports.tproxy) }
  }

  /// For people: "this machine's TCP (redirect) and UDP, and TCP (tproxy) and UDP from lan0".
  var description: String {
    var parts: [String] = []
    if let machine = policy.machine {
      let isPart =
        !machine.users.isEverything || !machine.groups.isEverything
        || !machine.controlGroups.isEverything || !machine.outputInterfaces.isEverything
      let traffic = traffic(machine.capture, policy.deliveredOfMachine)
      parts.append("\(isPart ? "a part of " : "")this machine's \(traffic)")
    }
    if let gateway = policy.gateway {
      let places = gateway.interfaces + gateway.interfaceGroups.map { "group \($0)" }
      let traffic = traffic(gateway.capture, policy.deliveredOfGateway)
      parts.append("\(traffic) from \(places.joined(separator: ", "))")
    }
    return parts.joined(separator: ", and ")
  }

  private func traffic(
    _ capture: RedirectPolicy.Capture, _ delivered: [TransportMatch.Transport]
  ) -> String {
    let datagrams = policy.uncaptured.udp == nil ? "UDP" : "DNS"
    return "TCP (\(capture))" + (delivered.contains(.udp) ? " and \(datagrams)" : "")
  }
}
