import Addressing
import NFTables
import RedirectPolicy
import Testing

/// What decides over a packet, and why, choice by choice.
struct ExplanationTests {
  private static let b = ControlGroup(path: "a/b", level: 2, identifier: 11)
  private static let mac = [HardwareAddress("02:00:00:00:00:01")].compactMap(\.self)
  private static let otherMAC = [HardwareAddress("02:00:00:00:00:02")].compactMap(\.self)

  private static let machine: [ExplanationCase] = [
    .machine("everything", .tproxied, ("divert", "tproxy ip to 127.0.0.1:10881")),
    .machine("IPv6", .tproxied, ("divert", "tproxy ip6 to [::1]:10881")) { _ in
    } packet: {
      $0.turnToIPv6()
    },
    .machine("redirect", .redirected, ("machine_redirect", "redirect to :10880")) {
      $0.machine?.capture = .redirect
    },
    .machine("gateway alone", .direct, nil) {
      $0 = RedirectPolicy(gateway: .init(.redirect, interfaces: ["lan0"]))
    },
    .machine("uid", .tproxied, ("divert", "tproxy")) { $0.machine?.users.only = [1000...1999] },
    .machine("other uid", .direct, ("machine_mark", "user 1000 is not in @users")) {
      $0.machine?.users.only = [0...999]
    },
    .machine("no socket", .direct, ("machine_mark", "no socket")) {
      $0.machine?.users.only = [1000...1000]
    } packet: {
      $0.user = nil
    },
    .machine("except-uid", .direct, ("machine_mark", "except-uid")) {
      $0.machine?.users.except = [1000...1000]
    },
    .machine("gid", .tproxied, ("divert", "tproxy")) { $0.machine?.groups.only = [1000...1000] },
    .machine("other gid", .direct, ("machine_mark", "group 1000 is not in @groups")) {
      $0.machine?.groups.only = [5...5]
    },
    .machine("except-gid", .direct, ("machine_mark", "except-gid")) {
      $0.machine?.groups.except = [5...1000]
    },
    .machine("cgroup", .tproxied, ("divert", "tproxy")) {
      $0.machine?.controlGroups.only = [b]
    },
    .machine("other cgroup", .direct, ("machine_mark", "control group of level 2 is not in")) {
      $0.machine?.controlGroups.only = [b]
    } packet: {
      $0.controlGroups = [10, 12]
    },
    .machine("shallow cgroup", .direct, ("machine_mark", "no control group of level 2")) {
      $0.machine?.controlGroups.only = [b]
    } packet: {
      $0.controlGroups = [10]
    },
    .machine("except-cgroup", .direct, ("machine_mark", "except-cgroup")) {
      $0.machine?.controlGroups.except = [b]
    },
    .machine("out-interface", .tproxied, ("divert", "tproxy")) {
      $0.machine?.outputInterfaces.only = ["wan*"]
    },
    .machine("other out-interface", .direct, ("machine_mark", "wan0 is not in")) {
      $0.machine?.outputInterfaces.only = ["tun0"]
    },
    .machine("except-out-interface", .direct, ("machine_mark", "except-out-interface")) {
      $0.machine?.outputInterfaces.except = ["wan0"]
    },
  ]

  private static let gateway: [ExplanationCase] = [
    .gateway("interface", .tproxied, ("divert", "tproxy ip to 127.0.0.1:10881")),
    .gateway("redirect", .redirected, ("gateway_redirect", "redirect to :10880")) {
      $0.gateway?.capture = .redirect
    },
    .gateway("machine alone", .direct, nil) { $0 = RedirectPolicy(machine: .init(.tproxy)) },
    .gateway("both scopes", .direct, ("gateway_tproxy", "not from the LAN")) {
      $0.machine = .init(.tproxy)
    } packet: {
      $0.input = .init("wan0")
    },
    .gateway("other interface", .direct, ("gateway_tproxy", "not from the LAN")) { _ in
    } packet: {
      $0.input = .init("lan1")
    },
    .gateway("prefix", .tproxied, ("divert", "tproxy")) { $0.gateway?.interfaces = ["lan*"] },
    .gateway("other prefix", .direct, ("gateway_tproxy", "not from the LAN")) {
      $0.gateway?.interfaces = ["br-*"]
    },
    .gateway("group", .tproxied, ("divert", "tproxy")) {
      $0.gateway?.interfaceGroups = [7]
    } packet: {
      $0.input = .init("eth5", group: 7)
    },
    .gateway("other group", .direct, ("gateway_tproxy", "iifgroup != @interface_groups")) {
      $0.gateway?.interfaceGroups = [7]
    } packet: {
      $0.input = .init("eth5")
    },
    .gateway("from", .tproxied, ("divert", "tproxy")) {
      $0.gateway?.sources.only = blocks("11.1.0.0/16")
    },
    .gateway("not from", .direct, ("gateway_tproxy", "not from")) {
      $0.gateway?.sources.only = blocks("11.9.0.0/16")
    },
    .gateway("from the other family", .direct, ("gateway_tproxy", "ip6 saddr != @sources6")) {
      $0.gateway?.sources.only = blocks("11.1.0.0/16")
    } packet: {
      $0.turnToIPv6()
    },
    .gateway("except-from", .direct, ("gateway_tproxy", "except-from")) {
      $0.gateway?.sources.except = blocks("11.1.0.2")
    },
    .gateway("mac", .tproxied, ("divert", "tproxy")) {
      $0.gateway?.hardwareAddresses.only = mac
    },
    .gateway("other mac", .direct, ("gateway_tproxy", "is not in @macs")) {
      $0.gateway?.hardwareAddresses.only = otherMAC
    },
    .gateway("no mac", .direct, ("gateway_tproxy", "unknown")) {
      $0.gateway?.hardwareAddresses.only = mac
    } packet: {
      $0.hardwareAddress = nil
    },
    .gateway("except-mac", .direct, ("gateway_tproxy", "except-mac")) {
      $0.gateway?.hardwareAddresses.except = mac
    },
    .gateway("from the upstream", .direct, ("gateway_tproxy", "from the upstream")) { _ in
    } packet: {
      $0.source = addresses("11.2.0.2")[0]
    },
    .gateway("to this host", .direct, ("exempt", "this host")) { _ in
    } packet: {
      $0.destinationType = .local
    },
  ]

  private static let destinations: [ExplanationCase] = [
    .machine("upstream", .direct, ("exempt", "upstream")) { _ in
    } packet: {
      $0.go(to: "11.2.0.2")
    },
    .machine("private range", .direct, ("exempt", "bypass")) { _ in
    } packet: {
      $0.go(to: "10.1.2.3")
    },
    .machine("proxy-private", .tproxied, ("divert", "tproxy")) {
      $0.destinations.includesPrivate = true
    } packet: {
      $0.go(to: "10.1.2.3")
    },
    .machine("link-local in spite of it", .direct, ("exempt", "bypass")) {
      $0.destinations.includesPrivate = true
    } packet: {
      $0.go(to: "169.254.1.1")
    },
    .machine("bypass", .direct, ("exempt", "bypass")) {
      $0.destinations.bypass = blocks("11.3.0.0/24")
    },
    .machine("proxy-only", .tproxied, ("divert", "tproxy")) {
      $0.destinations.only = blocks("11.3.0.0/24")
    },
    .machine("proxy-only in a private range", .tproxied, ("divert", "tproxy")) {
      $0.destinations.only = blocks("10.1.0.0/16")
    } packet: {
      $0.go(to: "10.1.2.3")
    },
    .machine("not in proxy-only", .direct, ("exempt", "not in proxy-only")) {
      $0.destinations.only = blocks("11.4.0.0/24")
    },
    .machine("bypass before proxy-only", .direct, ("exempt", "bypass4")) {
      $0.destinations.only = blocks("11.3.0.0/24")
      $0.destinations.bypass = blocks("11.3.0.2")
    },
    .machine("bypass-port", .direct, ("exempt", "bypass-port")) {
      $0.destinations.bypassPorts = [443...443]
    },
    .machine("proxy-only-port", .tproxied, ("divert", "tproxy")) {
      $0.destinations.onlyPorts = [1...1023]
    },
    .machine("not in proxy-only-port", .direct, ("exempt", "not in proxy-only-port")) {
      $0.destinations.onlyPorts = [22...80]
    },
    .machine("own mark", .direct, ("machine_mark", "the daemon's own sockets")) { _ in
    } packet: {
      $0.mark = 0x2000
    },
    .machine("foreign mark", .tproxied, ("divert", "tproxy")) { _ in
    } packet: {
      $0.mark = 0xca6c & ~0x3000
    },
    .machine("reply", .direct, ("machine_mark", "answers of services")) { _ in
    } packet: {
      $0.direction = .reply
    },
    .machine("middle of a connection", .direct, ("machine_mark", "older than these rules")) { _ in
    } packet: {
      $0.transport = .tcp(source: 40000, destination: 443, .ack)
    },
    .machine("middle of a captured one", .tproxied, ("divert", "tproxy")) { _ in
    } packet: {
      $0.transport = .tcp(source: 40000, destination: 443, .ack)
      $0.connectionMark = 0x1000
    },
    .gateway("rest of a captured one", .tproxied, ("divert", "tproxy")) { _ in
    } packet: {
      $0.transport = .tcp(source: 40000, destination: 443, .ack)
      $0.connectionMark = 0x1000
    },
    // Nothing has to bring it to a socket that it has already.
    .gateway("accepted", .direct, ("gateway_tproxy", "that the daemon has accepted")) { _ in
    } packet: {
      $0.transport = .tcp(source: 40000, destination: 443, .ack)
      $0.hasTransparentSocket = true
    },
  ]

  private static let treatments: [ExplanationCase] = [
    .machine("icmp reject", .rejected(.administrativelyProhibited), ("refuse", "icmp reject")) {
      $0.uncaptured.icmp = .reject
    } packet: {
      $0.transport = .icmp(type: 8)
    },
    .machine("icmp error", .direct, ("refuse", "about undeliverable packets")) {
      $0.uncaptured.icmp = .reject
    } packet: {
      $0.transport = .icmp(type: 3)
    },
    .machine("other reject", .rejected(.administrativelyProhibited), ("refuse", "other reject")) {
      $0.uncaptured.other = .reject
    } packet: {
      $0.transport = .other
    },
    .machine("ipv6 bypass", .direct, ("machine_mark", "IPv6 is not captured")) {
      $0.uncaptured.ipv6 = .bypass
    } packet: {
      $0.turnToIPv6()
    },
    .machine("ipv6 reject", .rejected(.tcpReset), ("refuse", "ipv6 reject")) {
      $0.uncaptured.ipv6 = .reject
    } packet: {
      $0.turnToIPv6()
    },
    .machine("IPv4 in ipv6 reject", .tproxied, ("divert", "tproxy")) {
      $0.uncaptured.ipv6 = .reject
    },
    .machine("draining", .direct, ("machine_mark", "the connection's mark")) {
      $0.phase = .draining
    },
    .machine("draining with a closed exit", .rejected(.tcpReset), ("refuse", "captured")) {
      $0.phase = .draining
      $0.exit = .closed
    },
    .machine("suspended with a closed exit", .direct, ("machine_mark", "the connection's mark")) {
      $0.phase = .suspended
      $0.exit = .closed
    },
    .machine("closed", .tproxied, ("divert", "tproxy")) { $0.exit = .closed },
    .gateway("closed redirect", .redirected, ("gateway_redirect", "redirect")) {
      $0.gateway?.capture = .redirect
      $0.exit = .closed
    },
  ]

  private static let withoutDaemon: [ExplanationCase] = [
    .machine("closed", .rejected(.tcpReset), ("refuse", "would have been captured")) {
      $0.exit = .closed
    },
    .gateway("closed to a LAN", .rejected(.tcpReset), ("refuse", "would have been captured")) {
      $0.exit = .closed
    },
    .machine("closed to others", .direct, ("machine_refuse", "user 1000 is not in @users")) {
      $0.exit = .closed
      $0.machine?.users.only = [0...0]
    },
    .machine("service", .direct, ("machine_refuse", "answers of services, older")) {
      $0.exit = .closed
      $0.services = [80...80]
    } packet: {
      $0.transport = .tcp(source: 80, destination: 40000, .ack)
    },
    .machine("open", .direct, nil),
  ]

  @Test(arguments: machine + gateway)
  func sendersAreChosen(_ one: ExplanationCase) { one.check() }

  @Test(arguments: destinations)
  func destinationsAreChosen(_ one: ExplanationCase) { one.check() }

  @Test(arguments: treatments)
  func theRestIsTreated(_ one: ExplanationCase) { one.check() }

  @Test(arguments: withoutDaemon)
  func theGuardStandsAlone(_ one: ExplanationCase) { one.check(isRunning: false) }
}
