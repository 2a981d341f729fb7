import Addressing
import NFTables
import RedirectPolicy

/// What the fields of a policy mean for the first packet of a flow, without a look at any rule: slow,
/// and obviously right.
struct PolicyModel {
  enum Verdict: Hashable {
    case redirected
    case tproxied
    case direct
    case rejected(Reject)
  }

  let policy: RedirectPolicy

  /// - Parameter isRunning: whether the daemon is there.
  func verdict(_ packet: Packet, isRunning: Bool) -> Verdict {
    let own = policy.numbers.marks.own
    if packet.mark & own.mask == own.value || packet.direction == .reply { return .direct }
    guard let capture = capture(packet) else { return .direct }
    let isExempt = isExempt(packet)
    let isResolved = isResolvedElsewhere(packet)
    if isExempt && !isResolved { return .direct }
    let isCaptured = isResolved || isCapturable(packet)
    if isRunning && policy.phase == .capturing && isCaptured && !isMiddle(packet) {
      // Of a link's addresses only NAT can lead away.
      let isKept = packet.input == nil && (capture == .tproxy || isUDP(packet))
      if isKept && linkLocal.contains(where: { $0.contains(packet.destination) }) {
        return .rejected(isUDP(packet) ? .portUnreachable : .tcpReset)
      }
      return capture == .redirect && !isUDP(packet) ? .redirected : .tproxied
    }
    let rejects =
      switch policy.exit {
      case .open: isRunning && policy.phase == .capturing && !isExempt
      case .closed: policy.phase != .suspended
      }
    // What arrives for this host stays in it.
    let staysHere = packet.input != nil && packet.destinationType != nil
    guard rejects, !staysHere, !isControl(packet), !isServicesAnswer(packet) else {
      return .direct
    }
    if policy.exit == .closed && isCaptured {
      return .rejected(isUDP(packet) ? .portUnreachable : .tcpReset)
    }
    return treatment(packet)
  }

  /// DNS that is captured since a resolver was chosen for all of it.
  private func isResolvedElsewhere(_ packet: Packet) -> Bool {
    policy.dns == .everywhere && port(packet) == 53
      && ![.broadcast, .multicast].contains(packet.destinationType)
      && !(isUDP(packet) && isLost(packet))
  }

  /// Whether there is a way to capture what is not exempt.
  private func isCapturable(_ packet: Packet) -> Bool {
    guard policy.uncaptured.ipv6 == nil || packet.destination.isIPv4 else { return false }
    switch packet.transport {
    case .tcp: return true
    case .udp(_, let port):
      if isLost(packet) { return false }
      if port == 53 && policy.dns != .none { return true }
      return policy.uncaptured.udp == nil && !(port == 443 && policy.rejectsQUIC)
    case .icmp, .icmpv6, .other: return false
    }
  }

  /// Whether it came where `tproxy` would forget it.
  private func isLost(_ packet: Packet) -> Bool {
    packet.input != nil && policy.gateway?.losesDatagrams == true
  }

  private func isUDP(_ packet: Packet) -> Bool {
    if case .udp = packet.transport { true } else { false }
  }

  /// How the scope that has chosen the packet captures; nil if none has.
  private func capture(_ packet: Packet) -> RedirectPolicy.Capture? {
    guard let input = packet.input else {
      return policy.machine.flatMap { selects($0, packet) ? $0.capture : nil }
    }
    return policy.gateway.flatMap { selects($0, packet, input) ? $0.capture : nil }
  }

  private func selects(_ machine: RedirectPolicy.Machine, _ packet: Packet) -> Bool {
    machine.users.allows { range in packet.user.map(range.contains) ?? false }
      && machine.groups.allows { range in packet.group.map(range.contains) ?? false }
      && machine.controlGroups.allows { packet.controlGroups.contains($0.identifier) }
      && machine.outputInterfaces.allows { names($0, packet.output ?? "") }
  }

  private func selects(
    _ gateway: RedirectPolicy.Gateway, _ packet: Packet, _ input: Packet.Interface
  ) -> Bool {
    let isFromLAN =
      gateway.interfaces.contains { names($0, input.name) }
      || gateway.interfaceGroups.contains(input.group)
    return isFromLAN && gateway.sources.allows { $0.contains(packet.source) }
      && gateway.hardwareAddresses.allows { $0 == packet.hardwareAddress }
      && !policy.upstreams.contains(packet.source)
  }

  private func names(_ pattern: String, _ interface: String) -> Bool {
    pattern.hasSuffix("*") ? interface.hasPrefix(pattern.dropLast()) : pattern == interface
  }

  private func isExempt(_ packet: Packet) -> Bool {
    let destinations = policy.destinations
    let to = packet.destination
    if packet.destinationType != nil || policy.upstreams.contains(to) { return true }
    var bypass = scopedRanges + destinations.bypass
    if !destinations.includesPrivate && destinations.only == nil { bypass += privateRanges }
    if bypass.contains(where: { $0.contains(to) }) { return true }
    if let only = destinations.only, !only.contains(where: { $0.contains(to) }) { return true }
    guard let port = port(packet) else { return false }
    return destinations.bypassPorts.contains { $0.contains(port) }
      || !destinations.onlyPorts.isEmpty && !destinations.onlyPorts.contains { $0.contains(port) }
  }

  /// Where TCP and UDP go.
  private func port(_ packet: Packet) -> UInt16? {
    switch packet.transport {
    case .tcp(_, let destination, _), .udp(_, let destination): destination
    case .icmp, .icmpv6, .other: nil
    }
  }

  /// Whether it belongs to a connection that began before.
  private func isMiddle(_ packet: Packet) -> Bool {
    switch packet.transport {
    case .tcp(_, _, let flags): flags != .syn
    case .udp: packet.input != nil && packet.isTranslated
    case .icmp, .icmpv6, .other: false
    }
  }

  private func isControl(_ packet: Packet) -> Bool {
    switch packet.transport {
    case .icmp(let type): [3, 11, 12].contains(type)
    case .icmpv6(let type): (1...4).contains(type) || (130...137).contains(type) || type == 143
    case .tcp, .udp, .other: false
    }
  }

  /// Only a closed exit rejects connections in their middle, and so has to spare these.
  private func isServicesAnswer(_ packet: Packet) -> Bool {
    guard case .tcp(let source, _, let flags) = packet.transport else { return false }
    return policy.exit == .closed && packet.input == nil && flags != .syn
      && policy.services.contains { $0.contains(source) }
  }

  private func treatment(_ packet: Packet) -> Verdict {
    var isTCP = false
    if case .tcp = packet.transport { isTCP = true }
    if let ipv6 = policy.uncaptured.ipv6, !packet.destination.isIPv4 {
      return ipv6 == .bypass
        ? .direct : .rejected(isTCP ? .tcpReset : .administrativelyProhibited)
    }
    let hasPortChoice = !policy.destinations.onlyPorts.isEmpty
    switch packet.transport {
    case .tcp: return policy.exit == .closed ? .rejected(.tcpReset) : .direct
    case .udp(_, let port):
      let isRejected =
        policy.uncaptured.udp == .reject || policy.rejectsQUIC && port == 443
        || policy.uncaptured.udp == nil && isLost(packet)
      return isRejected ? .rejected(.portUnreachable) : .direct
    case .icmp, .icmpv6:
      return policy.uncaptured.icmp == .reject && !hasPortChoice
        ? .rejected(.administrativelyProhibited) : .direct
    case .other:
      return policy.uncaptured.other == .reject && !hasPortChoice
        ? .rejected(.administrativelyProhibited) : .direct
    }
  }
}

/// RFC 6890: this host and this link.
private let scopedRanges = blocks(
  "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "::/128", "::1/128",
  "fe80::/10", "ff00::/8")

private let linkLocal = blocks("fe80::/10")

/// Other hosts of the same site.
private let privateRanges = blocks(
  "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")

extension RedirectPolicy.Choice {
  fileprivate func allows(_ matches: (Element) -> Bool) -> Bool {
    (only.isEmpty || only.contains(where: matches)) && !except.contains(where: matches)
  }
}
