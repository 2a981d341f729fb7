import Addressing
import CLibnftnl
import NFTables
import TestSupport
import Testing

@testable import Netfilter

/// What `RuleEncoder` makes is read as the same rule, and nothing else is.
struct RuleDecoderTests {
  private static let mark = MaskedMark(0x2000, mask: 0x3000)

  private static let expressions: [Expression] = [
    .interface(InterfaceMatch(.input, .equal, .name("lo"))),
    .interface(InterfaceMatch(.output, .notEqual, .name("fifteen-letters"))),
    .interface(InterfaceMatch(.input, .notEqual, .set("lan"))),
    .interfaceGroup(InterfaceGroupLookup(.notEqual, in: "groups")),
    .hardwareAddress(HardwareAddressLookup(in: "macs")),
    .owner(SocketOwnerLookup(.user, in: "users")),
    .owner(SocketOwnerLookup(.group, in: "groups")),
    .controlGroup(ControlGroupLookup(level: 3, in: "cgroups")),
    .family(FamilyMatch(.v4)), .family(FamilyMatch(.v6)),
    .transport(TransportMatch(.equal, .tcp)), .transport(TransportMatch(.notEqual, .tcp)),
    .transport(TransportMatch(.equal, .udp)), .transport(TransportMatch(.equal, .icmp)),
    .transport(TransportMatch(.equal, .icmpv6)),
    .port(PortLookup(.tcp, .source, in: "ports")),
    .port(PortLookup(.udp, .destination, .notEqual, in: "ports")),
    .icmpType(ICMPTypeLookup(.v4, in: "types")), .icmpType(ICMPTypeLookup(.v6, in: "types")),
    .mark(MarkMatch(.packet, mark)), .mark(MarkMatch(.connection, mark)),
    .mark(MarkMatch(.packet, MaskedMark(0, mask: 0x3000))),
    .setMark(MarkAssignment(.packet, mark)), .setMark(MarkAssignment(.connection, mark)),
    .setMark(MarkAssignment(.packet, MaskedMark(5, mask: .max))),
    .direction(.original), .direction(.reply), .status(.translatedSource),
    .flags(TCPFlagsMatch(.notEqual, .syn, of: [.fin, .syn, .rst, .ack])),
    .flags(TCPFlagsMatch(.equal, [], of: [.rst])),
    .address(AddressLookup(.v4, .source, in: "a")),
    .address(AddressLookup(.v4, .destination, .notEqual, in: "a")),
    .address(AddressLookup(.v6, .source, .notEqual, in: "a")),
    .address(AddressLookup(.v6, .destination, in: "a")),
    .addressType(AddressTypeLookup(in: "types")), .socket(.transparent),
    .redirect(Redirect(to: 10880)),
    .tproxy(TransparentProxy(to: SocketAddress(.v4(.loopback), 10881))),
    .tproxy(TransparentProxy(to: SocketAddress(.v6(.loopback), 65535))),
    .reject(.tcpReset), .reject(.portUnreachable), .reject(.administrativelyProhibited),
    .verdict(.accept), .verdict(.drop), .verdict(.return), .verdict(.jump("exempt")),
    .verdict(.goto("divert")),
  ]

  @Test(arguments: expressions)
  func readsEachExpression(_ expression: Expression) {
    #expect(roundTrip(Rule(expression)) == .ours(Rule(expression)))
  }

  @Test(arguments: 0..<200)
  func readsThemInAnyOrder(seed: UInt64) {
    var generator = SplitMix(seed: seed)
    let expressions = (0..<generator.next(below: 9)).map { _ in
      Self.expressions.randomElement(using: &generator)!
    }
    let rule = Rule(expressions, comment: seed % 2 == 0 ? nil : "number \(seed) of ünknown")
    #expect(roundTrip(rule) == .ours(rule))
  }

  @Test(arguments: ["", "a", String(repeating: "x", count: Rule.maximumCommentBytes)])
  func readsComments(_ comment: String) {
    let rule = Rule(.verdict(.drop), comment: comment)
    #expect(roundTrip(rule) == .ours(rule))
  }

  @Test func keepsForeignInstructionsInTheirPlace() {
    let found = decode { rule in
      RuleEncoder(rule: rule).encode(Rule(.family(FamilyMatch(.v4))))
      nftnl_rule_add_expr(rule, nftnl_expr_alloc("counter"))
      RuleEncoder(rule: rule).encode(Rule(.verdict(.accept), comment: "mine"))
    }
    #expect(
      found
        == .foreign(
          #"meta nfproto ipv4 [ counter pkts 0 bytes 0 ] accept comment "mine""#))
  }

  @Test func keepsOtherUserData() {
    let found = decode { rule in
      RuleEncoder(rule: rule).encode(Rule(.verdict(.accept)))
      let data: [UInt8] = [1, 4, 0, 0, 0, 0]
      nftnl_rule_set_data(
        rule, UInt16(NFTNL_RULE_USERDATA.rawValue), data, UInt32(data.count))
    }
    #expect(found == .foreign("accept [ with more than a comment ]"))
  }

  /// The second half of an expression, or its first one alone, is none of ours.
  @Test func readsNoHalves() {
    for expression in Self.expressions {
      let instructions = count(Rule(expression))
      for kept in 1..<max(instructions, 1) {
        let found = decode { rule in
          RuleEncoder(rule: rule).encode(Rule(expression))
          let iterator = nftnl_expr_iter_create(rule)!
          defer { nftnl_expr_iter_destroy(iterator) }
          for _ in 0..<instructions - kept {
            let first = nftnl_expr_iter_next(iterator)!
            nftnl_rule_del_expr(first)
            nftnl_expr_free(first)
          }
        }
        #expect(found != .ours(Rule(expression)))
      }
    }
  }

  // MARK: Pieces

  private func roundTrip(_ rule: Rule) -> FoundTable.FoundRule {
    decode { RuleEncoder(rule: $0).encode(rule) }
  }

  private func decode(_ fill: (OpaquePointer) -> Void) -> FoundTable.FoundRule {
    let object = allocated(nftnl_rule_alloc())
    defer { nftnl_rule_free(object) }
    fill(object)
    return RuleDecoder.decode(object)
  }

  private func count(_ rule: Rule) -> Int {
    let object = allocated(nftnl_rule_alloc())
    defer { nftnl_rule_free(object) }
    RuleEncoder(rule: object).encode(rule)
    let iterator = nftnl_expr_iter_create(object)!
    defer { nftnl_expr_iter_destroy(iterator) }
    var count = 0
    while nftnl_expr_iter_next(iterator) != nil { count += 1 }
    return count
  }
}
