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

  /// Asks for the routes of our table; a kernel that cannot filter sends them all.
  static func routeDump(_ family: IPFamily) -> [UInt8] {
    var header = rtmsg()
    header.rtm_family = family.number
    header.rtm_table = RoutingPlan.table
    return message(RTM_GETROUTE, NLM_F_DUMP, header) { _ in }
  }

  /// The rule that a message describes, nil unless it is ours.
  static func ourRule(_ bytes: [UInt8]) -> PolicyRouting.Entry? {
    guard let parsed = ParsedMessage<fib_rule_hdr>(bytes, type: RTM_NEWRULE) else { return nil }
    let attributes = parsed.attributes
    guard attributes[UInt16(FRA_PROTOCOL)] == [RoutingPlan.protocolNumber],
      attributes[UInt16(FRA_TABLE)] == hostBytes(UInt32(RoutingPlan.table)),
      attributes[UInt16(FRA_PRIORITY)] == hostBytes(RoutingPlan.priority)
    else { return nil }
    let content = IPFamily(parsed.header.family).flatMap { family in
      rule(family, attributes)
    }
    return PolicyRouting.Entry(
      content: content.map { .rule($0) } ?? .other, deletion: deletion(bytes, RTM_DELRULE))
  }

  /// The route that a message describes, nil unless it is ours.
  static func ourRoute(_ bytes: [UInt8]) -> PolicyRouting.Entry? {
    guard let parsed = ParsedMessage<rtmsg>(bytes, type: RTM_NEWROUTE),
      parsed.header.rtm_protocol == RoutingPlan.protocolNumber,
      parsed.attributes[UInt16(RTA_TABLE.rawValue)] == hostBytes(UInt32(RoutingPlan.table))
    else { return nil }
    let isPlanned =
      Int(parsed.header.rtm_type) == Int(RTN_LOCAL) && parsed.header.rtm_dst_len == 0
      && parsed.attributes[UInt16(RTA_OIF.rawValue)] == hostBytes(loopbackIndex)
    let family = isPlanned ? IPFamily(parsed.header.rtm_family) : nil
    return PolicyRouting.Entry(
      content: family.map { .route(RoutingPlan.Route($0)) } ?? .other,
      deletion: deletion(bytes, RTM_DELROUTE))
  }

  // MARK: Pieces

  /// The loopback interface has this index in every network namespace.
  fileprivate static let loopbackIndex: UInt32 = 1

  private static func rule(
    _ family: IPFamily, _ attributes: [UInt16: [UInt8]]
  ) -> RoutingPlan.Rule? {
    guard let name = attributes[UInt16(FRA_IIFNAME)],
      let value = attributes[UInt16(FRA_FWMARK)].flatMap(UInt32.init(hostBytes:)),
      let mask = attributes[UInt16(FRA_FWMASK)].flatMap(UInt32.init(hostBytes:)),
      value & ~mask == 0
    else { return nil }
    return RoutingPlan.Rule(
      family, inputInterface: String(decoding: name.prefix { $0 != 0 }, as: UTF8.self),
      mark: MaskedMark(value, mask: mask))
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
  fileprivate static func message<Header: BitwiseCopyable>(
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
    header.action = UInt8(FR_ACT_TO_TBL)
    header.table = RoutingPlan.table
    return RoutingMessage.message(
      RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, header
    ) {
      mnl_attr_put_u32($0, UInt16(FRA_PRIORITY), RoutingPlan.priority)
      mnl_attr_put_u32($0, UInt16(FRA_TABLE), UInt32(RoutingPlan.table))
      mnl_attr_put_u32($0, UInt16(FRA_FWMARK), mark.value)
      mnl_attr_put_u32($0, UInt16(FRA_FWMASK), mark.mask)
      mnl_attr_put_u8($0, UInt16(FRA_PROTOCOL), RoutingPlan.protocolNumber)
      mnl_attr_put_strz($0, UInt16(FRA_IIFNAME), inputInterface)
    }
  }
}

extension RoutingPlan.Route {
  /// Fails with EEXIST if the table has a default route.
  var addition: [UInt8] {
    var header = rtmsg()
    header.rtm_family = family.number
    header.rtm_table = RoutingPlan.table
    header.rtm_protocol = RoutingPlan.protocolNumber
    header.rtm_scope = UInt8(RT_SCOPE_HOST.rawValue)
    header.rtm_type = UInt8(RTN_LOCAL)
    return RoutingMessage.message(
      RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, header
    ) {
      mnl_attr_put_u32($0, UInt16(RTA_TABLE.rawValue), UInt32(RoutingPlan.table))
      mnl_attr_put_u32($0, UInt16(RTA_OIF.rawValue), RoutingMessage.loopbackIndex)
    }
  }
}

/// A message taken apart.
private struct ParsedMessage<Header: BitwiseCopyable> {
  let header: Header
  /// Contents by type.
  let attributes: [UInt16: [UInt8]]

  /// Nil for another type of message, or one that is too short.
  init?(_ bytes: [UInt8], type: Int) {
    let headerStart = MemoryLayout<nlmsghdr>.size
    let headerEnd = headerStart + MemoryLayout<Header>.size
    guard bytes.count >= headerEnd else { return nil }
    // NLA_TYPE_MASK (<linux/netlink.h>).
    let typeMask: UInt16 = 0x3FFF
    var attributes: [UInt16: [UInt8]] = [:]
    let header: Header? = bytes.withUnsafeBytes { buffer -> Header? in
      guard Int(buffer.loadUnaligned(as: nlmsghdr.self).nlmsg_type) == type else { return nil }
      var rest = buffer[((headerEnd + 3) & ~3)...]
      while rest.count >= MemoryLayout<nlattr>.size {
        let attribute = UnsafeRawBufferPointer(rebasing: rest).loadUnaligned(as: nlattr.self)
        let length = Int(attribute.nla_len)
        guard length >= MemoryLayout<nlattr>.size, length <= rest.count else { break }
        let content = rest.prefix(length).dropFirst(MemoryLayout<nlattr>.size)
        attributes[attribute.nla_type & typeMask] = Array(content)
        rest = rest.dropFirst((length + 3) & ~3)
      }
      return buffer.loadUnaligned(fromByteOffset: headerStart, as: Header.self)
    }
    guard let header else { return nil }
    self.header = header
    self.attributes = attributes
  }
}

extension IPFamily {
  fileprivate init?(_ number: UInt8) {
    switch Int32(number) {
    case AF_INET: self = .v4
    case AF_INET6: self = .v6
    default: return nil
    }
  }

  /// AF_INET or AF_INET6.
  fileprivate var number: UInt8 { UInt8(self == .v4 ? AF_INET : AF_INET6) }
}

extension UInt32 {
  fileprivate init?(hostBytes: [UInt8]) {
    guard hostBytes.count == 4 else { return nil }
    self = hostBytes.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
  }
}
