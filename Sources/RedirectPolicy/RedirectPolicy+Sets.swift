internal import Addressing
internal import NFTables

// The sets that rules look things up in.

/// Names of sets.
enum SetName {
  static let localTypes = "local_types"
  static let groupTypes = "group_types"
  static let dnsPorts = "dns_ports"
  static let quicPorts = "quic_ports"
  static let bypassPorts = "bypass_ports"
  static let onlyPorts = "only_ports"
  static let users = "users"
  static let exceptUsers = "except_users"
  static let groups = "groups"
  static let exceptGroups = "except_groups"
  static let outputInterfaces = "output_interfaces"
  static let exceptOutputInterfaces = "except_output_interfaces"
  static let interfaces = "interfaces"
  static let interfaceGroups = "interface_groups"
  static let hardwareAddresses = "macs"
  static let exceptHardwareAddresses = "except_macs"
  static let services = "services"

  static func upstreams(_ family: IPFamily) -> String { "upstream\(family.digit)" }
  static func bypass(_ family: IPFamily) -> String { "bypass\(family.digit)" }
  static func only(_ family: IPFamily) -> String { "only\(family.digit)" }
  static func linkLocal(_ family: IPFamily) -> String { "link_local\(family.digit)" }
  static func sources(_ family: IPFamily) -> String { "sources\(family.digit)" }
  static func exceptSources(_ family: IPFamily) -> String { "except_sources\(family.digit)" }
  static func icmpControl(_ family: IPFamily) -> String {
    family == .v4 ? "icmp_control" : "icmpv6_control"
  }
  static func controlGroups(_ level: UInt32) -> String { "cgroups_level\(level)" }
  static func exceptControlGroups(_ level: UInt32) -> String { "except_cgroups_level\(level)" }
}

extension RedirectPolicy {
  /// Those that rules of `chains` name.
  func sets(usedBy chains: [Chain]) -> [NamedSet] {
    let names = Set(chains.flatMap(\.rules).flatMap(\.expressions).compactMap(\.set))
    return sets.filter { names.contains($0.name) }
  }

  private var sets: [NamedSet] {
    var sets = destinationSets
    if let machine { sets += self.sets(machine) }
    if let gateway { sets += self.sets(gateway) }
    let control = ICMPType.errors + ICMPType.linkControl
    sets += [
      NamedSet(SetName.services, ports: services),
      NamedSet(SetName.icmpControl(.v4), icmpTypes: control, .v4),
      NamedSet(SetName.icmpControl(.v6), icmpTypes: control, .v6),
    ]
    return sets
  }

  private var destinationSets: [NamedSet] {
    let keepsPrivate = !destinations.includesPrivate && destinations.only == nil
    let bypass =
      BypassRanges.scoped + (keepsPrivate ? BypassRanges.privateUse : [])
      + destinations.bypass
    let only = destinations.only ?? []
    return [IPFamily.v4, .v6].map { NamedSet(SetName.upstreams($0), hosts: upstreams, $0) }
      + [IPFamily.v4, .v6].map { NamedSet(SetName.bypass($0), blocks: bypass, $0) }
      + [IPFamily.v4, .v6].map { NamedSet(SetName.only($0), blocks: only, $0) }
      + [
        NamedSet(SetName.bypassPorts, ports: destinations.bypassPorts),
        NamedSet(SetName.onlyPorts, ports: destinations.onlyPorts),
        NamedSet(
          SetName.localTypes, addressTypes: [.local, .broadcast, .anycast, .multicast]),
        NamedSet(SetName.groupTypes, addressTypes: [.broadcast, .multicast]),
        NamedSet(SetName.linkLocal(.v6), blocks: [BypassRanges.linkLocal], .v6),
        NamedSet(SetName.dnsPorts, ports: [53...53]),
        NamedSet(SetName.quicPorts, ports: [443...443]),
      ]
  }

  private func sets(_ machine: Machine) -> [NamedSet] {
    [
      NamedSet(SetName.users, .user, machine.users.only),
      NamedSet(SetName.exceptUsers, .user, machine.users.except),
      NamedSet(SetName.groups, .group, machine.groups.only),
      NamedSet(SetName.exceptGroups, .group, machine.groups.except),
      NamedSet(SetName.outputInterfaces, interfaces: machine.outputInterfaces.only),
      NamedSet(SetName.exceptOutputInterfaces, interfaces: machine.outputInterfaces.except),
    ]
      + machine.controlGroups.only.byLevel(SetName.controlGroups)
      + machine.controlGroups.except.byLevel(SetName.exceptControlGroups)
  }

  private func sets(_ gateway: Gateway) -> [NamedSet] {
    [
      NamedSet(SetName.interfaces, interfaces: gateway.interfaces),
      NamedSet(SetName.interfaceGroups, interfaceGroups: gateway.interfaceGroups),
    ]
      + [IPFamily.v4, .v6].map {
        NamedSet(SetName.sources($0), blocks: gateway.sources.only, $0)
      }
      + [IPFamily.v4, .v6].map {
        NamedSet(SetName.exceptSources($0), blocks: gateway.sources.except, $0)
      }
      + [
        NamedSet(
          SetName.hardwareAddresses, hardwareAddresses: gateway.hardwareAddresses.only),
        NamedSet(
          SetName.exceptHardwareAddresses, hardwareAddresses: gateway.hardwareAddresses.except),
      ]
  }
}

extension [ControlGroup] {
  /// Ascending, each once.
  var levels: [UInt32] { Set(map(\.level)).sorted() }

  fileprivate func byLevel(_ name: (UInt32) -> String) -> [NamedSet] {
    levels.map { level in
      NamedSet(name(level), controlGroups: filter { $0.level == level })
    }
  }
}

extension IPFamily {
  fileprivate var digit: String { self == .v4 ? "4" : "6" }
}
