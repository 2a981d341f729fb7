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
