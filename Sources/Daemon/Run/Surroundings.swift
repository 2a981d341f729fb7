internal import Configuration
internal import LinuxIO
internal import NFTables
internal import Netfilter
internal import RedirectPolicy

/// What a policy has to give way to on this host: numbers that others use, and bridges whose packets
/// `tproxy` would lose.
struct Surroundings {
  private let rules: [HostNetwork.Rule]
  /// Route tables with routes of others.
  private let usedTables: Set<UInt8>
  private let interfaces: [HostNetwork.Interface]
  private let filtersBridges: Bool

  init(
    rules: [HostNetwork.Rule], usedTables: Set<UInt8> = [],
    interfaces: [HostNetwork.Interface] = [], filtersBridges: Bool = false
  ) {
    self.rules = rules
    self.usedTables = usedTables
    self.interfaces = interfaces
    self.filtersBridges = filtersBridges
  }

  /// Looks at this network namespace; needs no privilege. What cannot be seen is taken to be absent.
  static func current() -> Surroundings {
    guard let network = try? HostNetwork() else { return Surroundings(rules: []) }
    return Surroundings(
      rules: (try? network.foreignRules()) ?? [],
      usedTables: Set(
        tables.filter { table in
          (try? network.foreignRoutes(inTable: table))?.isEmpty == false
        }),
      interfaces: (try? network.interfaces()) ?? [],
      filtersBridges: Sysctl("net.bridge.bridge-nf-call-iptables").value == "1")
  }

  /// Tables that are tried: few enough to look into each, and away from those that VPNs count upwards
  /// from 1 or downwards from 252.
  private static let tables: ClosedRange<UInt8> = 155...158
  private static let priorities: ClosedRange<UInt32> = 155...1155

  /// Numbers that are free; the usual ones where none are.
  var numbers: Numbers {
    var numbers = Numbers()
    let marks = Marks.candidates.first { marks in !rules.contains { $0.overlaps(marks) } }
    if let marks { numbers.marks = marks }
    if let table = Self.tables.first(where: { !usedTables.contains($0) }) {
      numbers.routeTable = table
    }
    let taken = Set(rules.map(\.priority))
    let priority = Self.priorities.first { first in
      taken.isDisjoint(with: first...(first + Numbers.ruleCount - 1))
    }
    if let priority { numbers.rulePriority = priority }
    return numbers
  }

  /// A bridge among the gateway's interfaces whose packets meet the rules before they are routed:
  /// what `tproxy` decides there is forgotten on the way up (`skb_orphan` in `ip_rcv`).
  func filteredBridge(of gateway: RedirectPolicy.Gateway) -> String? {
    guard filtersBridges else { return nil }
    return interfaces.first { $0.isBridge && gateway.includes($0) }?.name
  }
}

extension RedirectPolicy.Gateway {
  /// Whether what arrives there is captured.
  func includes(_ interface: HostNetwork.Interface) -> Bool {
    interfaceGroups.contains(interface.group)
      || interfaces.contains { $0.isMet(by: interface.name) }
  }
}

extension String {
  /// Whether this is the name, or the beginning of it and `*`.
  func isMet(by name: String) -> Bool {
    hasSuffix("*") ? name.hasPrefix(dropLast()) : self == name
  }
}
