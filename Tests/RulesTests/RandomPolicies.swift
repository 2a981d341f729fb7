import Addressing
import NFTables
import RedirectPolicy
import TestSupport

// Policies and packets at random. Both draw from the same few values, so that they meet often.

extension SplitMix {
  mutating func chance(_ percent: UInt64) -> Bool { next(below: 100) < percent }

  mutating func pick<Value>(_ values: [Value]) -> Value {
    values[Int(next(below: UInt64(values.count)))]
  }

  private mutating func some<Value>(_ values: [Value], chance percent: UInt64) -> [Value] {
    guard chance(percent) else { return [] }
    return (0...next(below: 2)).map { _ in pick(values) }
  }

  private mutating func choice<Value>(_ values: [Value]) -> RedirectPolicy.Choice<Value> {
    RedirectPolicy.Choice(only: some(values, chance: 25), except: some(values, chance: 15))
  }

  mutating func policy() -> RedirectPolicy {
    var policy = RedirectPolicy(
      machine: chance(75) ? machine() : nil, gateway: chance(75) ? gateway() : nil,
      upstreams: some(upstreams, chance: 60))
    policy.destinations.only = chance(20) ? some(destinationBlocks, chance: 80) : nil
    policy.destinations.bypass = some(destinationBlocks, chance: 25)
    policy.destinations.onlyPorts = some(portRanges, chance: 20)
    policy.destinations.bypassPorts = some(portRanges, chance: 20)
    policy.destinations.includesPrivate = chance(30)
    policy.uncaptured.udp = chance(50) ? treatment() : nil
    policy.rejectsQUIC = chance(30)
    policy.dns = pick([.none, .selected, .everywhere])
    policy.uncaptured.icmp = treatment()
    policy.uncaptured.other = treatment()
    policy.uncaptured.ipv6 = chance(30) ? treatment() : nil
    policy.exit = chance(50) ? .closed : .open
    policy.phase = pick([.capturing, .capturing, .capturing, .draining, .suspended])
    policy.services = some(portRanges, chance: 30)
    policy.numbers.marks = pick(Marks.candidates)
    return policy
  }

  private mutating func treatment() -> RedirectPolicy.Treatment { chance(50) ? .reject : .bypass }

  private mutating func machine() -> RedirectPolicy.Machine {
    var machine = RedirectPolicy.Machine(chance(50) ? .tproxy : .redirect)
    machine.users = choice(identities)
    machine.groups = choice(identities)
    machine.controlGroups = choice(controlGroups)
    machine.outputInterfaces = choice(patterns)
    return machine
  }

  private mutating func gateway() -> RedirectPolicy.Gateway {
    var gateway = RedirectPolicy.Gateway(
      chance(50) ? .tproxy : .redirect, interfaces: some(patterns, chance: 80),
      interfaceGroups: some([0, 7], chance: 30))
    gateway.sources = choice(sourceBlocks)
    gateway.hardwareAddresses = choice(hardwareAddresses)
    gateway.losesDatagrams = chance(15)
    return gateway
  }

  /// The first packet of a flow, or one that this host has not seen the beginning of.
  mutating func packet(for policy: RedirectPolicy) -> Packet {
    let isV4 = chance(60)
    let to = pick((destinations + upstreams).filter { $0.isIPv4 == isV4 })
    let from = pick((sources + upstreams).filter { $0.isIPv4 == isV4 })
    var packet = Packet(from: from, to: to, transport())
    packet.destinationType = chance(10) ? pick([.local, .broadcast, .anycast, .multicast]) : nil
    packet.output = pick(["wan0", "wan1", "lan0"])
    if chance(50) {
      packet.input = pick([
        .init("lan0"), .init("lan1", group: 7), .init("wan0"), .init("wan1", group: 7),
      ])
      packet.hardwareAddress = chance(90) ? pick(hardwareAddresses) : nil
    } else if chance(95) {
      packet.user = pick([0, 1000, 1001])
      packet.group = pick([0, 1000, 1001])
      packet.controlGroups = pick([[], [10], [10, 11], [10, 12], [20, 21, 22]])
    }
    packet.isTranslated = chance(5)
    packet.direction = chance(5) ? .reply : .original
    // Foreign bits may be set, ours only as the daemon sets them.
    let mask = policy.numbers.marks.mask
    packet.mark = UInt32(truncatingIfNeeded: next()) & ~mask
    packet.connectionMark = UInt32(truncatingIfNeeded: next()) & ~mask
    if chance(5) { packet.mark |= policy.numbers.marks.own.value }
    return packet
  }

  private mutating func transport() -> Packet.Transport {
    let (source, destination) = (pick(ports), pick(ports))
    return switch next(below: 12) {
    case 0..<4: .tcp(source: source, destination: destination, .syn)
    case 4: .tcp(source: source, destination: destination, pick([[.syn, .ack], .ack, .rst, .fin]))
    case 5..<9: .udp(source: source, destination: destination)
    case 9: .icmp(type: pick([0, 3, 8, 11, 12]))
    case 10: .icmpv6(type: pick([1, 2, 3, 4, 128, 129, 133, 135, 143]))
    default: .other
    }
  }
}

private let identities: [ClosedRange<UInt32>] = [0...0, 1000...1000, 1000...1999, 1...999]
private let controlGroups = [
  ControlGroup(path: "a", level: 1, identifier: 10),
  ControlGroup(path: "a/b", level: 2, identifier: 11),
  ControlGroup(path: "a/c", level: 2, identifier: 12),
  ControlGroup(path: "d/e/f", level: 3, identifier: 22),
]
private let patterns = ["lan0", "lan*", "lan1", "wan0", "wan*", "w*"]
private let sourceBlocks = blocks("11.0.0.0/8", "11.1.0.0/16", "2a0f::/16", "0.0.0.0/0", "::/0")
private let destinationBlocks = blocks(
  "11.3.0.0/16", "11.3.4.5", "10.0.0.0/8", "2a0f:3::/32", "0.0.0.0/0", "::/0")
private let hardwareAddresses = ["02:00:00:00:00:01", "02:00:00:00:00:02"]
  .compactMap { HardwareAddress($0) }
private let portRanges: [ClosedRange<UInt16>] = [22...22, 1...1023, 80...443, 8000...8999]
private let ports: [UInt16] = [22, 53, 80, 443, 8080, 40000]
private let upstreams = addresses("11.2.0.2", "2a0f:2::2")
private let sources = addresses("11.1.0.2", "11.9.0.2", "10.1.0.2", "2a0f:1::2", "2b00::2")
private let destinations = addresses(
  "11.3.0.2", "11.3.4.5", "11.4.0.2", "10.1.2.3", "192.168.0.9", "127.0.0.1", "169.254.1.1",
  "2a0f:3::2", "2a0f:4::2", "fd00::1", "fe80::1", "::1")
