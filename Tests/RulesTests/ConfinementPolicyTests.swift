import Addressing
import NFTables
import RedirectPolicy
import Testing

/// What becomes of what a confined program sends, and of what the engine sends it.
struct ConfinementPolicyTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let outcome: ExplanationCase.Outcome
    let policy: ConfinementPolicy
    let packet: Packet

    /// TCP from the namespace's host to 11.3.0.2:443, or what of it is varied.
    init(
      _ name: String, _ outcome: ExplanationCase.Outcome,
      policy change: (inout ConfinementPolicy) -> Void = { _ in },
      packet vary: (inout Packet) -> Void = { _ in }
    ) {
      var policy = ConfinementPolicy(addresses: addresses("192.0.0.2", "fd73:6c75:6963:65::1"))
      change(&policy)
      var packet = Packet.opening("192.0.0.2", "11.3.0.2")
      packet.output = "lo"
      vary(&packet)
      testDescription = name
      self.outcome = outcome
      self.policy = policy
      self.packet = packet
    }
  }

  private static let captured: [Case] = [
    Case("tcp", .tproxied),
    Case("tcp in its middle", .tproxied) { _ in
    } packet: {
      $0.transport = .tcp(source: 40000, destination: 443, .ack)
    },
    Case("tcp over IPv6", .tproxied) { _ in
    } packet: {
      $0.turnToIPv6()
    },
    Case("udp", .tproxied) { _ in
    } packet: {
      $0.sendDatagram(to: 443)
    },
    Case("udp over IPv6", .tproxied) { _ in
    } packet: {
      $0.turnToIPv6()
      $0.sendDatagram(to: 443)
    },
    Case("private", .tproxied) { _ in
    } packet: {
      $0.go(to: "192.168.0.1")
    },
    Case("of the network", .tproxied) { _ in
    } packet: {
      $0.go(to: "192.0.0.3")
    },
    Case("link-local", .tproxied) { _ in
    } packet: {
      $0.turnToIPv6()
      $0.go(to: "fe80::1")
    },
    Case("dns where udp is rejected", .tproxied) {
      $0.rejectsDatagrams = true
    } packet: {
      $0.sendDatagram(to: 53)
    },
    Case("dns of this host", .tproxied) {
      $0.dns = .everywhere
      $0.rejectsDatagrams = true
    } packet: {
      $0.go(to: "127.0.0.53")
      $0.sendDatagram(to: 53)
    },
    Case("the same over TCP", .tproxied) {
      $0.dns = .everywhere
    } packet: {
      $0.go(to: "127.0.0.53")
      $0.transport = .tcp(source: 40000, destination: 53, .syn)
    },
    Case("dns where IPv6 is rejected", .tproxied) {
      $0.dns = .everywhere
      $0.rejectsIPv6 = true
    } packet: {
      $0.turnToIPv6()
      $0.sendDatagram(to: 53)
    },
    Case("tcp to the port of QUIC", .tproxied) {
      $0.rejectsQUIC = true
    },
  ]

  private static let rejected: [Case] = [
    Case("udp reject", .rejected(.portUnreachable)) {
      $0.rejectsDatagrams = true
    } packet: {
      $0.sendDatagram(to: 443)
    },
    Case("udp reject without dns", .rejected(.portUnreachable)) {
      $0.rejectsDatagrams = true
      $0.dns = .none
    } packet: {
      $0.sendDatagram(to: 53)
    },
    Case("quic reject", .rejected(.portUnreachable)) {
      $0.rejectsQUIC = true
    } packet: {
      $0.sendDatagram(to: 443)
    },
    Case("ipv6 reject of tcp", .rejected(.tcpReset)) {
      $0.rejectsIPv6 = true
    } packet: {
      $0.turnToIPv6()
    },
    Case("ipv6 reject of dns", .rejected(.portUnreachable)) {
      $0.rejectsIPv6 = true
    } packet: {
      $0.turnToIPv6()
      $0.sendDatagram(to: 53)
    },
    Case("ping", .rejected(.administrativelyProhibited)) { _ in
    } packet: {
      $0.transport = .icmp(type: 8)
    },
    Case("ping over IPv6", .rejected(.administrativelyProhibited)) { _ in
    } packet: {
      $0.turnToIPv6()
      $0.transport = .icmpv6(type: 128)
    },
    Case("sctp", .rejected(.administrativelyProhibited)) { _ in
    } packet: {
      $0.transport = .other
    },
  ]

  private static let inside: [Case] = [
    Case("loopback", .direct) { _ in
    } packet: {
      $0.go(to: "127.0.0.1")
    },
    Case("its own address", .direct) { _ in
    } packet: {
      $0.go(to: "192.0.0.2")
    },
    Case("its own IPv6 address", .direct) { _ in
    } packet: {
      $0.turnToIPv6()
      $0.go(to: "fd73:6c75:6963:65::1")
    },
    Case("multicast", .direct) { _ in
    } packet: {
      $0.go(to: "224.0.0.251")
      $0.sendDatagram(to: 5353)
    },
    Case("ping to itself", .direct) { _ in
    } packet: {
      $0.go(to: "127.0.0.1")
      $0.transport = .icmp(type: 8)
    },
    Case("port unreachable", .direct) { _ in
    } packet: {
      $0.transport = .icmp(type: 3)
    },
    Case("the engine's answer to the port of DNS", .direct) {
      $0.dns = .everywhere
    } packet: {
      $0.mark = ConfinementPolicy.marks.own.value
      $0.go(to: "192.0.0.2")
      $0.transport = .tcp(source: 443, destination: 53, .ack)
    },
    Case("the same in the name of another host", .direct) {
      $0.dns = .everywhere
    } packet: {
      $0.mark = ConfinementPolicy.marks.reply.value
      $0.go(to: "192.0.0.2")
      $0.sendDatagram(to: 53)
    },
  ]

  @Test(arguments: captured + rejected + inside)
  func decides(_ example: Case) {
    let explanation = Explanation(
      of: example.packet, tables: [example.policy.table()], routing: RoutingPlan())
    #expect(ExplanationCase.Outcome(explanation.verdict) == example.outcome)
  }
}
