internal import NFTables
internal import Netfilter
internal import RedirectPolicy

/// What a gateway needs besides: interfaces, forwarding, and settings that do not lose its packets.
struct GatewayChecks {
  private let gateway: RedirectPolicy.Gateway
  private let numbers: Numbers
  /// What is captured by `tproxy`.
  private let delivered: [TransportMatch.Transport]
  private let interfaces: [HostNetwork.Interface]
  private let rules: [HostNetwork.Rule]

  /// Nil where there is no gateway.
  /// - Parameters:
  ///   - interfaces: all of this host.
  ///   - rules: of policy routing, those that are not ours.
  init?(
    _ policy: RedirectPolicy, interfaces: [HostNetwork.Interface], rules: [HostNetwork.Rule]
  ) {
    guard let gateway = policy.gateway else { return nil }
    self.gateway = gateway
    numbers = policy.numbers
    delivered = policy.deliveredOfGateway
    self.interfaces = interfaces
    self.rules = rules
  }

  func findings() -> [Finding] {
    presence() + [forwarding(Forwarding().missing), sourceValidation(), bridgeFilter()]
  }

  /// Those of this host that the scope names.
  var chosen: [HostNetwork.Interface] {
    interfaces.filter(gateway.includes)
  }

  func presence() -> [Finding] {
    var problems: [Finding] = []
    let names = interfaces.map(\.name)
    for pattern in gateway.interfaces where !names.contains(where: pattern.isMet) {
      problems.append(
        .warning(
          .interfaces, "there is no interface \(pattern): nothing is captured there until there is",
          advice: "check the name with: ip link"))
    }
    for group in gateway.interfaceGroups where !interfaces.contains(where: { $0.group == group }) {
      problems.append(
        .warning(
          .interfaces, "no interface is in group \(group)",
          advice: "put one there: ip link set dev INTERFACE group \(group)"))
    }
    for interface in chosen where !interface.isUp {
      problems.append(
        .warning(
          .interfaces, "the interface \(interface.name) is down",
          advice: "ip link set \(interface.name) up"))
    }
    let texts = chosen.map(\.name).joined(separator: ", ")
    return problems.isEmpty ? [.ok(.interfaces, "there and up: \(texts)")] : problems
  }

  /// - Parameter missing: the switches that are off.
  private func forwarding(_ missing: [Sysctl]) -> Finding {
    if missing.isEmpty { return .ok(.forwarding, "this host forwards packets") }
    let names = missing.map(\.name).joined(separator: " and ")
    if let fixed = missing.first(where: { !$0.isWritable }) {
      return .failure(
        .forwarding, "\(names) off, and \(fixed.name) cannot be set from here",
        advice: "set it outside of this container: sysctl -w \(fixed.name)=1")
    }
    let settings = missing.map { "\($0.name)=1" }.joined(separator: " ")
    return .warning(
      .forwarding, "\(names) off; run turns it on itself, and off again at its end",
      advice: "to keep it on: sysctl -w \(settings)")
  }

  // MARK: Source validation

  /// Strict `rp_filter` with `src_valid_mark` looks for the way back by the packet's mark. Our rules send
  /// that question past our table, unless another rule answers it first.
  private func sourceValidation() -> Finding {
    let strict = chosen.map(\.name).filter(Self.validatesByMark)
    if strict.isEmpty { return .ok(.sourceValidation, "rp_filter does not look at marks") }
    let names = strict.joined(separator: ", ")
    let what = "strict rp_filter with src_valid_mark on \(names)"
    if delivered.isEmpty {
      return .ok(.sourceValidation, "\(what): redirect marks no packets of a LAN")
    }
    guard let rule = earlierRule else {
      return .ok(.sourceValidation, "\(what): our rules are scoped so that it works")
    }
    let settings = strict.map { "net.ipv4.conf.\($0).rp_filter=2" }.joined(separator: " ")
    return .warning(
      .sourceValidation, "\(what), where \(rule.text) decides before our rules",
      advice: "make it loose: sysctl -w \(settings)")
  }

  /// A rule for packets with our mark, before ours.
  private var earlierRule: HostNetwork.Rule? {
    rules.first {
      $0.family == .v4 && $0.priority < numbers.rulePriority && $0.overlaps(numbers.marks)
    }
  }

  /// The kernel takes the larger `rp_filter` of an interface and `all`, 1 being strict, and
  /// `src_valid_mark` of either (Documentation/networking/ip-sysctl.rst).
  private static func validatesByMark(_ interface: String) -> Bool {
    func values(_ setting: String) -> [Int] {
      ["all", interface].compactMap { place in
        Sysctl(components: ["net", "ipv4", "conf", place, setting]).value.flatMap { Int($0) }
      }
    }
    return values("rp_filter").max() == 1 && values("src_valid_mark").contains(1)
  }

  // MARK: Bridges

  /// A bridge that hands its packets to the IP rules by itself takes them away from `tproxy`.
  private func bridgeFilter() -> Finding {
    let setting = Sysctl("net.bridge.bridge-nf-call-iptables")
    let bridges = chosen.filter(\.isBridge).map(\.name)
    guard setting.value == "1", !bridges.isEmpty else {
      return .ok(
        .bridgeFilter, "no bridge of the gateway passes its packets to the rules by itself")
    }
    let names = bridges.joined(separator: ", ")
    guard gateway.losesDatagrams || !delivered.isEmpty else {
      return .ok(.bridgeFilter, "\(names) is under br_netfilter, with which redirect works")
    }
    return .warning(
      .bridgeFilter,
      "\(names): br_netfilter hands bridged packets to the rules before they are routed, and tproxy "
        + "loses them: TCP is captured by redirect, and UDP not at all",
      advice: "sysctl -w \(setting.name)=0, or leave UDP to others: --udp reject --dns off")
  }
}
