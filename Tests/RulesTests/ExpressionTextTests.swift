import Addressing
import NFTables
import Testing

/// Each expression, as nft 1.0.6 lists it, but for a reject that it would read otherwise.
struct ExpressionTextTests {
  private static let ours: UInt32 = 0x3000

  @Test(
    arguments: [
      (.interface(InterfaceMatch(.input, .equal, .name("lo"))), #"iifname "lo""#),
      (.interface(InterfaceMatch(.output, .notEqual, .name("br-1.5"))), #"oifname != "br-1.5""#),
      (.interface(InterfaceMatch(.input, .notEqual, .set("lan"))), "iifname != @lan"),
      (.family(FamilyMatch(.v4)), "meta nfproto ipv4"),
      (.family(FamilyMatch(.v6)), "meta nfproto ipv6"),
      (.transport(TransportMatch(.equal, .tcp)), "meta l4proto tcp"),
      (.transport(TransportMatch(.notEqual, .tcp)), "meta l4proto != tcp"),
      (
        .mark(MarkMatch(.packet, MaskedMark(0x2000, mask: ours))),
        "meta mark & 0x00003000 == 0x00002000"
      ),
      (
        .mark(MarkMatch(.connection, MaskedMark(0, mask: ours))),
        "ct mark & 0x00003000 == 0x00000000"
      ),
      (
        .setMark(MarkAssignment(.packet, MaskedMark(0x1000, mask: ours))),
        "meta mark set meta mark & 0xffffdfff | 0x00001000"
      ),
      (
        .setMark(MarkAssignment(.connection, MaskedMark(0x3000, mask: ours))),
        "ct mark set ct mark | 0x00003000"
      ),
      (.interfaceGroup(InterfaceGroupLookup(.notEqual, in: "g")), "iifgroup != @g"),
      (.hardwareAddress(HardwareAddressLookup(in: "m")), "ether saddr @m"),
      (.owner(SocketOwnerLookup(.user, in: "u")), "meta skuid @u"),
      (.owner(SocketOwnerLookup(.group, in: "u")), "meta skgid @u"),
      (.controlGroup(ControlGroupLookup(level: 2, in: "c")), "socket cgroupv2 level 2 @c"),
      (.transport(TransportMatch(.equal, .icmpv6)), "meta l4proto ipv6-icmp"),
      (.port(PortLookup(.tcp, .source, in: "p")), "tcp sport @p"),
      (.port(PortLookup(.udp, .destination, .notEqual, in: "p")), "udp dport != @p"),
      (.icmpType(ICMPTypeLookup(.v4, in: "i")), "icmp type @i"),
      (.icmpType(ICMPTypeLookup(.v6, in: "i")), "icmpv6 type @i"),
      (.address(AddressLookup(.v4, .destination, .notEqual, in: "a")), "ip daddr != @a"),
      (.reject(.tcpReset), "reject with tcp reset"),
      (.reject(.portUnreachable), "reject with icmpx port-unreachable"),
      (.reject(.administrativelyProhibited), "reject with icmpx admin-prohibited"),
      (.direction(.reply), "ct direction reply"),
      (.direction(.original), "ct direction original"),
      (.status(.translatedSource), "ct status snat"),
      (.flags(TCPFlagsMatch(.equal, .syn, of: [.syn, .ack])), "tcp flags syn / syn,ack"),
      (
        .flags(TCPFlagsMatch(.notEqual, .syn, of: [.ack, .rst, .syn, .fin])),
        "tcp flags != syn / fin,syn,rst,ack"
      ),
      (.address(AddressLookup(.v4, .destination, in: "a")), "ip daddr @a"),
      (.address(AddressLookup(.v6, .source, in: "b")), "ip6 saddr @b"),
      (.addressType(AddressTypeLookup(in: "c")), "fib daddr type @c"),
      (.socket(.transparent), "socket transparent 1"),
      (.redirect(Redirect(to: 10880)), "redirect to :10880"),
      (
        .tproxy(TransparentProxy(to: SocketAddress(.v4(.loopback), 1))), "tproxy ip to 127.0.0.1:1"
      ),
      (.tproxy(TransparentProxy(to: SocketAddress(.v6(.loopback), 2))), "tproxy ip6 to [::1]:2"),
      (.verdict(.accept), "accept"),
      (.verdict(.drop), "drop"),
      (.verdict(.return), "return"),
      (.verdict(.jump("x")), "jump x"),
      (.verdict(.goto("y")), "goto y"),
    ] as [(Expression, String)])
  func expression(_ expression: Expression, text: String) {
    #expect(expression.description == text)
  }

  @Test(arguments: [
    (Chain.Base(.nat, .prerouting, .dstnat), "nat hook prerouting priority dstnat"),
    (Chain.Base(.nat, .output, .dstnat), "nat hook output priority -100"),
    (Chain.Base(.route, .output, .mangle), "route hook output priority mangle"),
    (Chain.Base(.filter, .postrouting, .mangle), "filter hook postrouting priority mangle"),
    (Chain.Base(.filter, .output, .filter), "filter hook output priority filter"),
  ])
  func baseChain(_ base: Chain.Base, text: String) {
    #expect(base.description == "type \(text); policy accept;")
  }

  @Test func tableWithoutAnything() {
    let table = Table(family: .inet, name: "t", sets: [], chains: [])
    #expect(table.description == "table inet t {\n}")
  }

  @Test func chainsAndRules() {
    let table = Table(
      family: .inet, name: "t", sets: [],
      chains: [
        Chain("a", rules: []),
        Chain(
          "b", Chain.Base(.filter, .input, .mangle),
          rules: [Rule(.transport(TransportMatch(.equal, .tcp)), .verdict(.goto("a")))]),
      ])
    #expect(
      table.description == """
        table inet t {
        \tchain a {
        \t}

        \tchain b {
        \t\ttype filter hook input priority mangle; policy accept;
        \t\tmeta l4proto tcp goto a
        \t}
        }
        """)
  }
}
