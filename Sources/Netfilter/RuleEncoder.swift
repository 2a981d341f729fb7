internal import Addressing
internal import CLibmnl
internal import CLibnftnl
internal import CLinux
internal import NFTables

/// Turns expressions into the kernel's: small instructions on registers (`NFTA_*` in
/// <linux/netfilter/nf_tables.h>), the same that nft makes of the same text.
struct RuleEncoder {
  /// The `nftnl_rule` that instructions are added to; it frees them.
  let rule: OpaquePointer

  func encode(_ rule: Rule) {
    for expression in rule.expressions { encode(expression) }
    if let comment = rule.comment { encode(comment: comment) }
  }

  /// User data that nft lists as `comment "…"`: a type, a length and a text that ends with zero.
  static func userData(comment: String) -> [UInt8] {
    let text = Array(comment.utf8.prefix(Rule.maximumCommentBytes)) + [0]
    return [UInt8(NFTNL_UDATA_RULE_COMMENT.rawValue), UInt8(text.count)] + text
  }

  private func encode(comment: String) {
    let data = Self.userData(comment: comment)
    nftnl_rule_set_data(rule, UInt16(NFTNL_RULE_USERDATA.rawValue), data, UInt32(data.count))
  }

  private func encode(_ expression: Expression) {
    switch expression {
    case .interface(let match): encode(match)
    case .interfaceGroup(let lookup):
      loadMeta(NFT_META_IIFGROUP)
      look(in: lookup.set, lookup.comparison)
    case .hardwareAddress(let lookup):
      loadMeta(NFT_META_IFTYPE)
      compare(.equal, Self.ethernet)
      loadPayload(
        NFT_PAYLOAD_LL_HEADER, offset: 6, bytes: UInt32(HardwareAddress.byteCount))
      look(in: lookup.set)
    case .owner(let lookup):
      loadMeta(lookup.identity == .user ? NFT_META_SKUID : NFT_META_SKGID)
      // Interval sets compare keys as big-endian numbers.
      reverseBytes(count: 4)
      look(in: lookup.set)
    case .controlGroup(let lookup):
      add("socket") {
        nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_SOCKET_DREG), Self.register1)
        nftnl_expr_set_u32(
          $0, UInt16(NFTNL_EXPR_SOCKET_KEY), UInt32(NFT_SOCKET_CGROUPV2.rawValue))
        nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_SOCKET_LEVEL), lookup.level)
      }
      look(in: lookup.set)
    case .port(let lookup):
      require(lookup.transport == .tcp ? .tcp : .udp)
      loadPayload(
        NFT_PAYLOAD_TRANSPORT_HEADER, offset: lookup.field == .source ? 0 : 2, bytes: 2)
      look(in: lookup.set, lookup.comparison)
    case .icmpType(let lookup):
      requireFamily(lookup.family)
      require(lookup.family == .v4 ? .icmp : .icmpv6)
      loadPayload(NFT_PAYLOAD_TRANSPORT_HEADER, offset: 0, bytes: 1)
      look(in: lookup.set)
    case .family(let match): requireFamily(match.family)
    case .transport(let match): encode(match)
    case .mark(let match):
      loadMark(match.holder)
      bitwise(mask: hostBytes(match.mark.mask), xor: hostBytes(UInt32(0)))
      compare(.equal, hostBytes(match.mark.value))
    case .setMark(let assignment):
      loadMark(assignment.holder)
      bitwise(mask: hostBytes(~assignment.mark.mask), xor: hostBytes(assignment.mark.value))
      storeMark(assignment.holder)
    case .direction(let match):
      loadConnection(NFT_CT_DIRECTION)
      compare(.equal, [match == .original ? 0 : 1])
    case .status(.translatedSource):
      loadConnection(NFT_CT_STATUS)
      bitwise(mask: hostBytes(Self.translatedSource), xor: hostBytes(UInt32(0)))
      compare(.notEqual, hostBytes(UInt32(0)))
    case .flags(let match):
      require(.tcp)
      loadPayload(NFT_PAYLOAD_TRANSPORT_HEADER, offset: 13, bytes: 1)
      bitwise(mask: [match.mask.rawValue], xor: [0])
      compare(match.comparison, [match.value.rawValue])
    case .address(let lookup): encode(lookup)
    case .addressType(let lookup):
      add("fib") {
        nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_FIB_DREG), Self.register1)
        nftnl_expr_set_u32(
          $0, UInt16(NFTNL_EXPR_FIB_RESULT), UInt32(NFT_FIB_RESULT_ADDRTYPE.rawValue))
        nftnl_expr_set_u32(
          $0, UInt16(NFTNL_EXPR_FIB_FLAGS), UInt32(NFTA_FIB_F_DADDR.rawValue))
      }
      look(in: lookup.set)
    case .socket(.transparent):
      add("socket") {
        nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_SOCKET_DREG), Self.register1)
        nftnl_expr_set_u32(
          $0, UInt16(NFTNL_EXPR_SOCKET_KEY), UInt32(NFT_SOCKET_TRANSPARENT.rawValue))
      }
      compare(.equal, [1])
    case .redirect(let statement): encode(statement)
    case .tproxy(let statement): encode(statement)
    case .reject(let statement): encode(statement)
    case .verdict(let verdict): encode(verdict)
    }
  }

  // MARK: Expressions of several instructions

  private func encode(_ match: InterfaceMatch) {
    loadMeta(match.direction == .input ? NFT_META_IIFNAME : NFT_META_OIFNAME)
    switch match.operand {
    case .name(let name): compare(match.comparison, interfaceNameBytes(name))
    case .set(let set): look(in: set, match.comparison)
    }
  }

  private func encode(_ match: TransportMatch) {
    loadMeta(NFT_META_L4PROTO)
    let number =
      switch match.transport {
      case .tcp: IPPROTO_TCP
      case .udp: IPPROTO_UDP
      case .icmp: IPPROTO_ICMP
      case .icmpv6: IPPROTO_ICMPV6
      }
    compare(match.comparison, [UInt8(number)])
  }

  private func encode(_ lookup: AddressLookup) {
    requireFamily(lookup.family)
    // RFC 791, section 3.1, and RFC 8200, section 3.
    let (source, destination, bytes): (UInt32, UInt32, UInt32) =
      lookup.family == .v4 ? (12, 16, 4) : (8, 24, 16)
    loadPayload(
      NFT_PAYLOAD_NETWORK_HEADER, offset: lookup.field == .source ? source : destination,
      bytes: bytes)
    look(in: lookup.set, lookup.comparison)
  }

  private func encode(_ redirect: Redirect) {
    immediate(networkBytes(redirect.port), Self.register1)
    add("redir") {
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_REDIR_REG_PROTO_MIN), Self.register1)
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_REDIR_REG_PROTO_MAX), Self.register1)
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_REDIR_FLAGS), Self.rangeProtoSpecified)
    }
  }

  private func encode(_ tproxy: TransparentProxy) {
    let address = tproxy.listener.address
    immediate(address.bytes, Self.register1)
    immediate(networkBytes(tproxy.listener.port), Self.register2)
    add("tproxy") {
      nftnl_expr_set_u32(
        $0, UInt16(NFTNL_EXPR_TPROXY_FAMILY), Self.number(address.isIPv4 ? .v4 : .v6))
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_TPROXY_REG_ADDR), Self.register1)
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_TPROXY_REG_PORT), Self.register2)
    }
  }

  private func encode(_ reject: Reject) {
    let (type, code): (nft_reject_types, UInt8) =
      switch reject {
      case .tcpReset: (NFT_REJECT_TCP_RST, 0)
      case .portUnreachable:
        (NFT_REJECT_ICMPX_UNREACH, UInt8(NFT_REJECT_ICMPX_PORT_UNREACH.rawValue))
      case .administrativelyProhibited:
        (NFT_REJECT_ICMPX_UNREACH, UInt8(NFT_REJECT_ICMPX_ADMIN_PROHIBITED.rawValue))
      }
    add("reject") {
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_REJECT_TYPE), UInt32(type.rawValue))
      nftnl_expr_set_u8($0, UInt16(NFTNL_EXPR_REJECT_CODE), code)
    }
  }

  private func encode(_ verdict: Verdict) {
    let (code, chain): (Int32, String?) =
      switch verdict {
      case .accept: (NF_ACCEPT, nil)
      case .drop: (NF_DROP, nil)
      case .return: (NFT_RETURN.rawValue, nil)
      case .jump(let chain): (NFT_JUMP.rawValue, chain)
      case .goto(let chain): (NFT_GOTO.rawValue, chain)
      }
    add("immediate") {
      nftnl_expr_set_u32(
        $0, UInt16(NFTNL_EXPR_IMM_DREG), UInt32(NFT_REG_VERDICT.rawValue))
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_IMM_VERDICT), UInt32(bitPattern: code))
      if let chain { nftnl_expr_set_str($0, UInt16(NFTNL_EXPR_IMM_CHAIN), chain) }
    }
  }

  // MARK: Instructions

  private static let register1 = UInt32(NFT_REG_1.rawValue)
  private static let register2 = UInt32(NFT_REG_2.rawValue)
  /// ARPHRD_ETHER (<linux/if_arp.h>).
  static let ethernet = hostBytes(UInt16(1))
  /// IPS_SRC_NAT (<linux/netfilter/nf_conntrack_common.h>).
  static let translatedSource: UInt32 = 0x10
  /// NF_NAT_RANGE_PROTO_SPECIFIED (<linux/netfilter/nf_nat.h>).
  static let rangeProtoSpecified: UInt32 = 2

  private static func number(_ family: IPFamily) -> UInt32 {
    UInt32(family == .v4 ? NFPROTO_IPV4 : NFPROTO_IPV6)
  }

  private func requireFamily(_ family: IPFamily) {
    loadMeta(NFT_META_NFPROTO)
    compare(.equal, [UInt8(Self.number(family))])
  }

  private func require(_ transport: TransportMatch.Transport) {
    encode(TransportMatch(.equal, transport))
  }

  private func loadMark(_ holder: MarkHolder) {
    switch holder {
    case .packet: loadMeta(NFT_META_MARK)
    case .connection: loadConnection(NFT_CT_MARK)
    }
  }

  private func storeMark(_ holder: MarkHolder) {
    switch holder {
    case .packet:
      add("meta") {
        nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_META_KEY), UInt32(NFT_META_MARK.rawValue))
        nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_META_SREG), Self.register1)
      }
    case .connection:
      add("ct") {
        nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_CT_KEY), UInt32(NFT_CT_MARK.rawValue))
        nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_CT_SREG), Self.register1)
      }
    }
  }

  private func loadMeta(_ key: nft_meta_keys) {
    add("meta") {
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_META_KEY), UInt32(key.rawValue))
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_META_DREG), Self.register1)
    }
  }

  private func loadConnection(_ key: nft_ct_keys) {
    add("ct") {
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_CT_KEY), UInt32(key.rawValue))
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_CT_DREG), Self.register1)
    }
  }

  private func loadPayload(_ base: nft_payload_bases, offset: UInt32, bytes: UInt32) {
    add("payload") {
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_PAYLOAD_DREG), Self.register1)
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_PAYLOAD_BASE), UInt32(base.rawValue))
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_PAYLOAD_OFFSET), offset)
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_PAYLOAD_LEN), bytes)
    }
  }

  private func bitwise(mask: [UInt8], xor: [UInt8]) {
    add("bitwise") {
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_BITWISE_SREG), Self.register1)
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_BITWISE_DREG), Self.register1)
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_BITWISE_LEN), UInt32(mask.count))
      nftnl_expr_set($0, UInt16(NFTNL_EXPR_BITWISE_MASK), mask, UInt32(mask.count))
      nftnl_expr_set($0, UInt16(NFTNL_EXPR_BITWISE_XOR), xor, UInt32(xor.count))
    }
  }

  private func reverseBytes(count: UInt32) {
    add("byteorder") {
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_BYTEORDER_SREG), Self.register1)
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_BYTEORDER_DREG), Self.register1)
      nftnl_expr_set_u32(
        $0, UInt16(NFTNL_EXPR_BYTEORDER_OP), UInt32(NFT_BYTEORDER_HTON.rawValue))
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_BYTEORDER_LEN), count)
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_BYTEORDER_SIZE), count)
    }
  }

  private func compare(_ comparison: Comparison, _ value: [UInt8]) {
    let operation = comparison == .equal ? NFT_CMP_EQ : NFT_CMP_NEQ
    add("cmp") {
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_CMP_SREG), Self.register1)
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_CMP_OP), UInt32(operation.rawValue))
      nftnl_expr_set($0, UInt16(NFTNL_EXPR_CMP_DATA), value, UInt32(value.count))
    }
  }

  private func look(in set: String, _ comparison: Comparison = .equal) {
    add("lookup") {
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_LOOKUP_SREG), Self.register1)
      nftnl_expr_set_str($0, UInt16(NFTNL_EXPR_LOOKUP_SET), set)
      if comparison == .notEqual {
        nftnl_expr_set_u32(
          $0, UInt16(NFTNL_EXPR_LOOKUP_FLAGS), UInt32(NFT_LOOKUP_F_INV.rawValue))
      }
    }
  }

  private func immediate(_ value: [UInt8], _ register: UInt32) {
    add("immediate") {
      nftnl_expr_set_u32($0, UInt16(NFTNL_EXPR_IMM_DREG), register)
      nftnl_expr_set($0, UInt16(NFTNL_EXPR_IMM_DATA), value, UInt32(value.count))
    }
  }

  /// Adds an instruction by the kernel's name for it.
  private func add(_ name: String, _ fill: (OpaquePointer) -> Void) {
    let expression = allocated(nftnl_expr_alloc(name))
    fill(expression)
    nftnl_rule_add_expr(rule, expression)
  }
}
