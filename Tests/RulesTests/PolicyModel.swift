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
    guard let capture = capture(packet), !isExempt(packet) else { return .direct }
    let isCaptured =
      isRunning && policy.phase == .capturing && opens(packet)
      && (policy.uncaptured.ipv6 == nil || packet.destination.isIPv4)
    if isCaptured { return capture == .redirect ? .redirected : .tproxied }
    let rejects =
      switch policy.exit {
      case .open: isRunning && policy.phase == .capturing
      case .closed: policy.phase != .suspended
      }
    guard rejects, !isControl(packet), !isServicesAnswer(packet) else { return .direct }
    return treatment(packet)
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
    let port: UInt16
    switch packet.transport {
    case .tcp(_, let destination, _), .udp(_, let destination): port = destination
    case .icmp, .icmpv6, .other: return false
    }
    return destinations.bypassPorts.contains { $0.contains(port) }
      || !destinations.onlyPorts.isEmpty && !destinations.onlyPorts.contains { $0.contains(port) }
  }

  private func opens(_ packet: Packet) -> Bool {
    if case .tcp(_, _, let flags) = packet.transport { flags == .syn } else { false }
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
    case .udp: return policy.uncaptured.udp == .reject ? .rejected(.portUnreachable) : .direct
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

/// Other hosts of the same site.
private let privateRanges = blocks(
  "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")

extension RedirectPolicy.Choice {
  fileprivate func allows(_ matches: (Element) -> Bool) -> Bool {
    (only.isEmpty || only.contains(where: matches)) && !except.contains(where: matches)
  }
}
