internal import CLibmnl
internal import CLinux
internal import NFTables
internal import RedirectPolicy

// Messages of rtnetlink(7): `struct fib_rule_hdr` with `FRA_*` attributes (<linux/fib_rules.h>) and
// `struct rtmsg` with `RTA_*` (<linux/rtnetlink.h>).

enum RoutingMessage {
  /// Asks for all rules of a family.
  static func ruleDump(_ family: IPFamily) -> [UInt8] {
    var header = fib_rule_hdr()
    header.family = family.number
    return message(RTM_GETRULE, NLM_F_DUMP, header) { _ in }
  }

  /// Asks for the routes of our protocol number; a kernel that cannot filter sends them all.
  static func routeDump(_ family: IPFamily) -> [UInt8] {
    var header = rtmsg()
    header.rtm_family = family.number
    header.rtm_protocol = RoutingPlan.protocolNumber
    return message(RTM_GETROUTE, NLM_F_DUMP, header) { _ in }
  }

  /// The rule that a message describes, nil unless it is ours.
  static func ourRule(_ bytes: [UInt8]) -> PolicyRouting.Entry? {
    guard let parsed = ParsedMessage<fib_rule_hdr>(bytes, type: RTM_NEWRULE),
      parsed.attributes[UInt16(FRA_PROTOCOL)] == [RoutingPlan.protocolNumber]
    else { return nil }
    return PolicyRouting.Entry(
      content: rule(parsed).map { .rule($0) } ?? .other, deletion: deletion(bytes, RTM_DELRULE))
  }

  /// The route that a message describes, nil unless it is ours.
  static func ourRoute(_ bytes: [UInt8]) -> PolicyRouting.Entry? {
    guard let parsed = ParsedMessage<rtmsg>(bytes, type: RTM_NEWROUTE),
      parsed.header.rtm_protocol == RoutingPlan.protocolNumber
    else { return nil }
    let isPlanned =
      Int(parsed.header.rtm_type) == Int(RTN_LOCAL) && parsed.header.rtm_dst_len == 0
      && parsed.attributes[UInt16(RTA_OIF.rawValue)] == hostBytes(loopbackIndex)
    let family = isPlanned ? IPFamily(parsed.header.rtm_family) : nil
    let table = parsed.number(UInt16(RTA_TABLE.rawValue)).flatMap { UInt8(exactly: $0) }
    let route = family.flatMap { family in table.map { RoutingPlan.Route(family, table: $0) } }
    return PolicyRouting.Entry(
      content: route.map { .route($0) } ?? .other, deletion: deletion(bytes, RTM_DELROUTE))
  }

  // MARK: Pieces

  /// The loopback interface has this index in every network namespace.
  static let loopbackIndex: UInt32 = 1

  /// Nil for what `RoutingPlan` cannot say.
  private static func rule(_ parsed: ParsedMessage<fib_rule_hdr>) -> RoutingPlan.Rule? {
    guard let family = IPFamily(parsed.header.family), hasNoOtherSelector(parsed),
      let action = action(parsed), let mark = mark(parsed)
    else { return nil }
    return RoutingPlan.Rule(
      family, priority: parsed.number(UInt16(FRA_PRIORITY)) ?? 0, mark: mark,
      inputInterface: parsed.text(UInt16(FRA_IIFNAME)), action: action)
  }

  /// Whether a rule selects by mark and interface alone.
  private static func hasNoOtherSelector(_ parsed: ParsedMessage<fib_rule_hdr>) -> Bool {
    let header = parsed.header
    let said = [
      FRA_PRIORITY, FRA_PROTOCOL, FRA_FWMARK, FRA_FWMASK, FRA_IIFNAME, FRA_TABLE, FRA_GOTO,
      FRA_SUPPRESS_PREFIXLEN, FRA_PAD,
    ]
    return header.src_len == 0 && header.dst_len == 0 && header.tos == 0
      && header.flags & UInt32(FIB_RULE_INVERT) == 0
      && parsed.number(UInt16(FRA_SUPPRESS_PREFIXLEN)) ?? .max == .max
      && parsed.attributes.keys.allSatisfy { key in said.contains { UInt16($0) == key } }
  }

  private static func action(_ parsed: ParsedMessage<fib_rule_hdr>) -> RoutingPlan.Rule.Action? {
    switch Int(parsed.header.action) {
    case Int(FR_ACT_TO_TBL):
      parsed.number(UInt16(FRA_TABLE)).flatMap { UInt8(exactly: $0) }.map { .lookup($0) }
    case Int(FR_ACT_GOTO): parsed.number(UInt16(FRA_GOTO)).map { .goto($0) }
    case Int(FR_ACT_NOP): .nothing
    default: nil
    }
  }

  /// The inner nil is that of a rule for every mark, the outer one that of a value outside its mask.
  private static func mark(_ parsed: ParsedMessage<fib_rule_hdr>) -> MaskedMark?? {
    let value = parsed.number(UInt16(FRA_FWMARK)) ?? 0
    let mask = parsed.number(UInt16(FRA_FWMASK)) ?? 0
    if mask == 0 { return value == 0 ? .some(nil) : nil }
    return value & ~mask == 0 ? .some(MaskedMark(value, mask: mask)) : nil
  }

  /// The kernel takes what it said about an object as the description of what to delete.
  private static func deletion(_ bytes: [UInt8], _ type: Int) -> [UInt8] {
    var bytes = bytes
    bytes.withUnsafeMutableBytes { buffer in
      var header = buffer.loadUnaligned(as: nlmsghdr.self)
      header.nlmsg_type = UInt16(type)
      header.nlmsg_flags = UInt16(NLM_F_REQUEST | NLM_F_ACK)
      buffer.storeBytes(of: header, as: nlmsghdr.self)
    }
    return bytes
  }

  /// A request: the netlink header, the family's own, and attributes.
  static func message<Header: BitwiseCopyable>(
    _ type: Int, _ flags: Int32, _ header: Header,
    _ attributes: (UnsafeMutablePointer<nlmsghdr>) -> Void
  ) -> [UInt8] {
    let maximumBytes = 512
    return [UInt8](unsafeUninitializedCapacity: maximumBytes) { buffer, count in
      // SAFETY: both headers and at most eight small attributes fit; the length in the header says
      // how much libmnl has initialised.
      guard let message = mnl_nlmsg_put_header(buffer.baseAddress) else {
        preconditionFailure("libmnl gave no header")
      }
      message.pointee.nlmsg_type = UInt16(type)
      message.pointee.nlmsg_flags = UInt16(NLM_F_REQUEST | flags)
      mnl_nlmsg_put_extra_header(message, MemoryLayout<Header>.size)?
        .storeBytes(of: header, as: Header.self)
      attributes(message)
      count = Int(message.pointee.nlmsg_len)
    }
  }
}

extension RoutingPlan.Rule {
  /// Fails with EEXIST if the same rule is there.
  var addition: [UInt8] {
    var header = fib_rule_hdr()
    header.family = family.number
    switch action {
    case .lookup(let table):
      header.action = UInt8(FR_ACT_TO_TBL)
      header.table = table
    case .goto: header.action = UInt8(FR_ACT_GOTO)
    case .nothing: header.action = UInt8(FR_ACT_NOP)
    }
    return RoutingMessage.message(
      RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, header
    ) {
      mnl_attr_put_u32($0, UInt16(FRA_PRIORITY), priority)
      mnl_attr_put_u8($0, UInt16(FRA_PROTOCOL), RoutingPlan.protocolNumber)
      switch action {
      case .lookup(let table): mnl_attr_put_u32($0, UInt16(FRA_TABLE), UInt32(table))
      case .goto(let priority): mnl_attr_put_u32($0, UInt16(FRA_GOTO), priority)
      case .nothing: break
      }
      if let mark {
        mnl_attr_put_u32($0, UInt16(FRA_FWMARK), mark.value)
        mnl_attr_put_u32($0, UInt16(FRA_FWMASK), mark.mask)
      }
      if let inputInterface {
        mnl_attr_put_strz($0, UInt16(FRA_IIFNAME), inputInterface)
      }
    }
  }
}

extension RoutingPlan.Route {
  /// Takes the place of another default route of the table.
  var addition: [UInt8] {
    var header = rtmsg()
    header.rtm_family = family.number
    header.rtm_table = table
    header.rtm_protocol = RoutingPlan.protocolNumber
    header.rtm_scope = UInt8(RT_SCOPE_HOST.rawValue)
    header.rtm_type = UInt8(RTN_LOCAL)
    return RoutingMessage.message(
      RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, header
    ) {
      mnl_attr_put_u32($0, UInt16(RTA_TABLE.rawValue), UInt32(table))
      mnl_attr_put_u32($0, UInt16(RTA_OIF.rawValue), RoutingMessage.loopbackIndex)
    }
  }
}

extension IPFamily {
  init?(_ number: UInt8) {
    switch Int32(number) {
    case AF_INET: self = .v4
    case AF_INET6: self = .v6
    default: return nil
    }
  }

  /// AF_INET or AF_INET6.
  var number: UInt8 { UInt8(self == .v4 ? AF_INET : AF_INET6) }
}
