import NFTables
import RedirectPolicy
import Testing

/// What decides over UDP and DNS, and why.
struct DatagramExplanationTests {
  private static let datagrams: [ExplanationCase] = [
    .machine("udp", .tproxied, ("divert", "udp tproxy ip to 127.0.0.1:10881")) { _ in
    } packet: {
      $0.sendDatagram(to: 443)
    },
    .gateway("udp from a LAN", .tproxied, ("divert", "udp tproxy ip6 to [::1]:10881")) { _ in
    } packet: {
      $0.turnToIPv6()
      $0.sendDatagram(to: 443)
    },
    .machine("udp beside redirect", .tproxied, ("divert", "udp tproxy")) {
      $0.machine?.capture = .redirect
    } packet: {
      $0.sendDatagram(to: 443)
    },
    .gateway("exempt beside redirect", .direct, ("exempt", "bypass")) {
      $0.gateway?.capture = .redirect
    } packet: {
      $0.go(to: "10.0.0.1")
      $0.sendDatagram(to: 443)
    },
    .machine("udp of a service", .direct, ("machine_mark", "answers of services")) { _ in
    } packet: {
      $0.sendDatagram(to: 443)
      $0.direction = .reply
    },
    .machine("udp of a captured flow", .tproxied, ("divert", "udp tproxy")) {
      $0.phase = .draining
    } packet: {
      $0.sendDatagram(to: 443)
      $0.connectionMark = 0x1000
    },
    .machine("udp that the other side began", .tproxied, ("divert", "udp tproxy")) { _ in
    } packet: {
      $0.sendDatagram(to: 443)
      $0.connectionMark = 0x1000
      $0.direction = .reply
    },
    .gateway("the same from a LAN", .tproxied, ("divert", "udp tproxy")) { _ in
    } packet: {
      $0.sendDatagram(to: 443)
      $0.connectionMark = 0x1000
      $0.direction = .reply
    },
    .machine("udp bypass", .direct, ("machine_mark", "UDP other than DNS")) {
      $0.uncaptured.udp = .bypass
    } packet: {
      $0.sendDatagram(to: 443)
    },
    .machine("udp bypass without dns", .direct, ("machine_mark", "l4proto != tcp")) {
      $0.uncaptured.udp = .bypass
      $0.dns = .none
    } packet: {
      $0.sendDatagram(to: 53)
    },
    .machine("udp reject", .rejected(.portUnreachable), ("refuse", "udp reject")) {
      $0.uncaptured.udp = .reject
    } packet: {
      $0.sendDatagram(to: 443)
    },
    .gateway("udp of an older flow", .direct, ("gateway_tproxy", "translated before")) { _ in
    } packet: {
      $0.sendDatagram(to: 443)
      $0.isTranslated = true
    },
    .gateway("udp reject from a LAN", .rejected(.portUnreachable), ("refuse", "udp reject")) {
      $0.uncaptured.udp = .reject
    } packet: {
      $0.sendDatagram(to: 443)
    },
    .machine("udp reject of a captured flow", .rejected(.portUnreachable), ("refuse", "udp")) {
      $0.uncaptured.udp = .reject
    } packet: {
      $0.sendDatagram(to: 443)
      $0.connectionMark = 0x1000
    },
    .gateway("the same from a LAN", .rejected(.portUnreachable), ("refuse", "udp reject")) {
      $0.uncaptured.udp = .reject
    } packet: {
      $0.sendDatagram(to: 443)
      $0.connectionMark = 0x1000
    },
    .gateway("dns of a captured flow in it", .tproxied, ("divert", "udp tproxy")) {
      $0.uncaptured.udp = .reject
    } packet: {
      $0.sendDatagram(to: 53)
      $0.connectionMark = 0x1000
    },
    .gateway("draining in it", .tproxied, ("divert", "udp tproxy")) {
      $0.uncaptured.udp = .reject
      $0.phase = .draining
    } packet: {
      $0.sendDatagram(to: 443)
      $0.connectionMark = 0x1000
    },
    .machine("udp to a bypassed address", .direct, ("exempt", "bypass")) {
      $0.uncaptured.udp = .reject
    } packet: {
      $0.go(to: "10.0.0.1")
      $0.sendDatagram(to: 443)
    },
    .gateway("udp in ipv6 reject", .rejected(.administrativelyProhibited), ("refuse", "ipv6")) {
      $0.uncaptured.ipv6 = .reject
    } packet: {
      $0.turnToIPv6()
      $0.sendDatagram(to: 443)
    },
    .gateway("udp on a filtered bridge", .rejected(.portUnreachable), ("refuse", "udp reject")) {
      $0.gateway?.losesDatagrams = true
    } packet: {
      $0.sendDatagram(to: 443)
    },
    .gateway("udp bypass there", .direct, ("refuse", "udp bypass")) {
      $0.gateway?.losesDatagrams = true
      $0.uncaptured.udp = .bypass
      $0.uncaptured.icmp = .reject
    } packet: {
      $0.sendDatagram(to: 53)
    },
    .machine("quic reject", .rejected(.portUnreachable), ("refuse", "quic reject")) {
      $0.rejectsQUIC = true
    } packet: {
      $0.sendDatagram(to: 443)
    },
    .gateway("quic reject in udp bypass", .rejected(.portUnreachable), ("refuse", "quic reject")) {
      $0.rejectsQUIC = true
      $0.uncaptured.udp = .bypass
    } packet: {
      $0.sendDatagram(to: 443)
    },
    .machine("other udp in quic reject", .tproxied, ("divert", "udp tproxy")) {
      $0.rejectsQUIC = true
    } packet: {
      $0.sendDatagram(to: 444)
    },
    .machine("a captured flow in quic reject", .tproxied, ("divert", "udp tproxy")) {
      $0.rejectsQUIC = true
    } packet: {
      $0.sendDatagram(to: 443)
      $0.connectionMark = 0x1000
    },
    .machine("tcp in quic reject", .tproxied, ("divert", "tcp tproxy")) { $0.rejectsQUIC = true },
    .machine("udp with a closed exit", .tproxied, ("divert", "udp tproxy")) {
      $0.exit = .closed
    } packet: {
      $0.sendDatagram(to: 443)
    },
  ]

  private static let queries: [ExplanationCase] = [
    .machine("dns in udp reject", .tproxied, ("divert", "udp tproxy")) {
      $0.uncaptured.udp = .reject
    } packet: {
      $0.sendDatagram(to: 53)
    },
    .gateway("dns in udp bypass", .tproxied, ("divert", "udp tproxy")) {
      $0.uncaptured.udp = .bypass
    } packet: {
      $0.sendDatagram(to: 53)
    },
    .machine("dns to a private resolver", .direct, ("exempt", "bypass")) { _ in
    } packet: {
      $0.go(to: "10.0.0.1")
      $0.sendDatagram(to: 53)
    },
    .machine("dns to the stub", .direct, ("exempt", "this host")) { _ in
    } packet: {
      $0.go(to: "127.0.0.53")
      $0.destinationType = .local
      $0.sendDatagram(to: 53)
    },
    .machine("all dns, to the stub", .tproxied, ("divert", "udp tproxy ip to 127.0.0.1")) {
      $0.dns = .everywhere
    } packet: {
      $0.go(to: "127.0.0.53")
      $0.destinationType = .local
      $0.sendDatagram(to: 53)
    },
    .machine("all dns, to ::1 without IPv6", .tproxied, ("divert", "udp tproxy ip6 to [::1]")) {
      $0.dns = .everywhere
      $0.uncaptured.ipv6 = .reject
    } packet: {
      $0.turnToIPv6()
      $0.go(to: "::1")
      $0.destinationType = .local
      $0.sendDatagram(to: 53)
    },
    .machine("all dns, by TCP", .redirected, ("machine_redirect", "tcp dport @dns_ports")) {
      $0.dns = .everywhere
      $0.machine?.capture = .redirect
    } packet: {
      $0.go(to: "10.0.0.1")
      $0.transport = .tcp(source: 1, destination: 53, .syn)
    },
    .machine("all dns of others", .direct, ("machine_mark", "user 1000 is not in @users")) {
      $0.dns = .everywhere
      $0.machine?.users.only = [0...0]
    } packet: {
      $0.sendDatagram(to: 53)
    },
    .machine("all dns, to several", .direct, ("machine_mark", "several hosts at once")) {
      $0.dns = .everywhere
    } packet: {
      $0.destinationType = .broadcast
      $0.sendDatagram(to: 53)
    },
    .machine("all dns, to a link", .rejected(.portUnreachable), ("machine_mark", "its link")) {
      $0.dns = .everywhere
    } packet: {
      $0.turnToIPv6()
      $0.go(to: "fe80::1")
      $0.sendDatagram(to: 53)
    },
    .gateway("all dns, of a link", .tproxied, ("divert", "udp tproxy ip6")) {
      $0.dns = .everywhere
    } packet: {
      $0.turnToIPv6()
      $0.go(to: "fe80::1")
      $0.destinationType = .local
      $0.sendDatagram(to: 53)
    },
    .gateway("all dns, to the gateway", .tproxied, ("divert", "udp tproxy")) {
      $0.dns = .everywhere
    } packet: {
      $0.go(to: "192.168.0.1")
      $0.destinationType = .local
      $0.sendDatagram(to: 53)
    },
    .gateway("all dns, of the upstream", .direct, ("gateway_tproxy", "from the upstream")) {
      $0.dns = .everywhere
    } packet: {
      $0.source = addresses("11.2.0.2")[0]
      $0.sendDatagram(to: 53)
    },
  ]

  private static let withoutDaemon: [ExplanationCase] = [
    .machine("udp", .rejected(.portUnreachable), ("refuse", "would have been captured")) {
      $0.exit = .closed
    } packet: {
      $0.sendDatagram(to: 443)
    },
    .machine("udp bypass", .direct, ("refuse", "udp bypass")) {
      $0.exit = .closed
      $0.uncaptured.udp = .bypass
    } packet: {
      $0.sendDatagram(to: 443)
    },
    .machine("dns in it", .rejected(.portUnreachable), ("machine_refuse", "would have been")) {
      $0.exit = .closed
      $0.uncaptured.udp = .bypass
    } packet: {
      $0.sendDatagram(to: 53)
    },
    .machine("dns to the stub", .direct, ("exempt", "this host")) {
      $0.exit = .closed
    } packet: {
      $0.go(to: "127.0.0.53")
      $0.destinationType = .local
      $0.sendDatagram(to: 53)
    },
    .machine("all dns", .rejected(.portUnreachable), ("machine_refuse", "would have been")) {
      $0.exit = .closed
      $0.dns = .everywhere
    } packet: {
      $0.go(to: "127.0.0.53")
      $0.destinationType = .local
      $0.sendDatagram(to: 53)
    },
    .gateway("all dns", .rejected(.tcpReset), ("gateway_refuse", "would have been captured")) {
      $0.exit = .closed
      $0.dns = .everywhere
    } packet: {
      $0.go(to: "10.0.0.1")
      $0.transport = .tcp(source: 1, destination: 53, .syn)
    },
    .gateway("all dns, to the gateway", .direct, nil) {
      $0.exit = .closed
      $0.dns = .everywhere
    } packet: {
      $0.destinationType = .local
      $0.sendDatagram(to: 53)
    },
  ]

  @Test(arguments: datagrams)
  func datagramsAreCaptured(_ one: ExplanationCase) { one.check() }

  @Test(arguments: queries)
  func queriesAreCaptured(_ one: ExplanationCase) { one.check() }

  @Test(arguments: withoutDaemon)
  func theGuardStandsAlone(_ one: ExplanationCase) { one.check(isRunning: false) }
}
