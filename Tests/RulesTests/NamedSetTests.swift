import Addressing
import NFTables
import Testing

/// Sets hold each element once, in the order and layout in which nft 1.0.6 lists them.
struct NamedSetTests {
  @Test(arguments: [
    (NamedSet("s", hosts: [], .v4), ["type ipv4_addr"]),
    (
      NamedSet("s", hosts: addresses("9.9.9.9", "1.2.3.4", "::1", "5.5.5.5", "1.2.3.4"), .v4),
      ["type ipv4_addr", "elements = { 1.2.3.4, 5.5.5.5,", "\t     9.9.9.9 }"]
    ),
    (
      NamedSet("s", hosts: addresses("fe80::1", "9.9.9.9", "::5"), .v6),
      ["type ipv6_addr", "elements = { ::5,", "\t     fe80::1 }"]
    ),
    (
      NamedSet("s", blocks: blocks("8000::/1", "::/1", "1.0.0.0/8"), .v6),
      ["type ipv6_addr", "flags interval", "elements = { ::/0 }"]
    ),
    (
      NamedSet("s", interfaces: ["wlan0", "b", "eth10", "ab", "aa", "lan1", "eth9", "lan1"]),
      [
        "type ifname", #"elements = { "b","#, #"\#t     "aa","#, #"\#t     "ab","#,
        #"\#t     "lan1","#, #"\#t     "eth9","#, #"\#t     "eth10","#, #"\#t     "wlan0" }"#,
      ]
    ),
    (
      NamedSet("s", interfaces: ["lan0", "zz9", "br-*", "br-lan*", "br-x", "a*", "wlan0"]),
      [
        "type ifname", "flags interval", #"elements = { "a*","#, #"\#t     "br-*","#,
        #"\#t     "lan0","#, #"\#t     "wlan0","#, #"\#t     "zz9" }"#,
      ]
    ),
    (
      NamedSet("s", interfaceGroups: [300, 7, 7]),
      ["type devgroup", "elements = { 7,", "\t     300 }"]
    ),
    (
      NamedSet("s", .user, [5...9, 20...20, 10...12, 1...1, 2...2, 30...31, 40...40, 50...50]),
      ["type uid", "flags interval", "elements = { 1-2, 5-12, 20, 30-31, 40,", "\t     50 }"]
    ),
    (
      NamedSet("s", .group, [0...UInt32.max, 7...8]),
      ["type gid", "flags interval", "elements = { 0-4294967295 }"]
    ),
    (
      NamedSet("s", ports: [443...443, 80...90]),
      ["type inet_service", "flags interval", "elements = { 80-90, 443 }"]
    ),
    (
      NamedSet(
        "s",
        hardwareAddresses: ["02:00:00:00:00:02", "02-00-00-00-00-0A", "00:ff:00:00:00:00"]
          .compactMap { HardwareAddress($0) }),
      [
        "type ether_addr", "elements = { 00:ff:00:00:00:00,", "\t     02:00:00:00:00:02,",
        "\t     02:00:00:00:00:0a }",
      ]
    ),
    (
      NamedSet("s", controlGroups: [ControlGroup(path: "a/b", level: 2, identifier: 7)]),
      ["type cgroupsv2", #"elements = { "a/b" }"#]
    ),
    (
      NamedSet("s", icmpTypes: ICMPType.errors, .v4),
      [
        "type icmp_type", "elements = { destination-unreachable,", "\t     time-exceeded,",
        "\t     parameter-problem }",
      ]
    ),
    (
      NamedSet("s", addressTypes: [.multicast, .local, .local]),
      ["type fib_addrtype", "elements = { local,", "\t     multicast }"]
    ),
  ])
  func text(of set: NamedSet, lines: [String]) {
    let expected = "\tset s {\n" + lines.map { "\t\t\($0)\n" }.joined() + "\t}"
    #expect(set.description == expected)
  }
}

func addresses(_ texts: String...) -> [IPAddress] { texts.compactMap { IPAddress($0) } }

func blocks(_ texts: String...) -> [CIDR] { texts.compactMap { CIDR($0) } }
