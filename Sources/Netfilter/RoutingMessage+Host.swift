internal import CLibmnl
internal import CLinux
internal import NFTables
internal import RedirectPolicy

// Messages about interfaces and addresses (`struct ifinfomsg` in <linux/rtnetlink.h> with `IFLA_*` of
// <linux/if_link.h>, `struct ifaddrmsg` with `IFA_*` of <linux/if_addr.h>), and about what others have
// made.

extension RoutingMessage {
  // MARK: Reading

  static var interfaceDump: [UInt8] {
    message(RTM_GETLINK, NLM_F_DUMP, ifinfomsg()) { _ in }
  }

  /// Asks for the routes of a table; a kernel that cannot filter sends those of all.
  static func routeDump(_ family: IPFamily, table: UInt8) -> [UInt8] {
    var header = rtmsg()
    header.rtm_family = family.number
    header.rtm_table = table
    return message(RTM_GETROUTE, NLM_F_DUMP, header) {
      mnl_attr_put_u32($0, UInt16(RTA_TABLE.rawValue), UInt32(table))
    }
  }

  static func interface(_ bytes: [UInt8]) -> HostNetwork.Interface? {
    guard let parsed = ParsedMessage<ifinfomsg>(bytes, type: RTM_NEWLINK),
      let name = parsed.text(UInt16(IFLA_IFNAME))
    else { return nil }
    // IFLA_LINKINFO holds attributes of its own, the kind first of all: a length, a type, a text.
    let details = parsed.attributes[UInt16(IFLA_LINKINFO)] ?? []
    let kind = details.dropFirst(MemoryLayout<nlattr>.size).prefix { $0 != 0 }
    return HostNetwork.Interface(
      name, group: parsed.number(UInt16(IFLA_GROUP)) ?? 0,
      isUp: parsed.header.ifi_flags & UInt32(IFF_UP) != 0,
      isBridge: kind.elementsEqual("bridge".utf8))
  }

  /// Nil for a rule of ours.
  static func foreignRule(_ bytes: [UInt8]) -> HostNetwork.Rule? {
    guard let parsed = ParsedMessage<fib_rule_hdr>(bytes, type: RTM_NEWRULE),
      parsed.attributes[UInt16(FRA_PROTOCOL)] != [RoutingPlan.protocolNumber],
      let family = IPFamily(parsed.header.family)
    else { return nil }
    return HostNetwork.Rule(
      family, priority: parsed.number(UInt16(FRA_PRIORITY)) ?? 0,
      mark: parsed.number(UInt16(FRA_FWMARK)) ?? 0,
      markMask: parsed.number(UInt16(FRA_FWMASK)) ?? 0)
  }

  static func isForeignRoute(_ bytes: [UInt8], inTable table: UInt8) -> Bool {
    guard let parsed = ParsedMessage<rtmsg>(bytes, type: RTM_NEWROUTE) else { return false }
    return parsed.header.rtm_protocol != RoutingPlan.protocolNumber
      && parsed.number(UInt16(RTA_TABLE.rawValue)) == UInt32(table)
  }

  // MARK: Making

  /// Sets the loopback up.
  static var loopbackUp: [UInt8] {
    var header = ifinfomsg()
    header.ifi_index = Int32(loopbackIndex)
    header.ifi_flags = UInt32(IFF_UP)
    header.ifi_change = UInt32(IFF_UP)
    return message(RTM_NEWLINK, NLM_F_ACK, header) { _ in }
  }

  /// Gives the loopback an address, as a host of its own.
  /// - Parameter address: 4 or 16 bytes in network order.
  static func loopbackAddress(_ address: [UInt8], _ family: IPFamily) -> [UInt8] {
    var header = ifaddrmsg()
    header.ifa_family = family.number
    header.ifa_prefixlen = UInt8(address.count * 8)
    header.ifa_index = loopbackIndex
    return message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, header) {
      mnl_attr_put($0, UInt16(IFA_LOCAL), address.count, address)
      mnl_attr_put($0, UInt16(IFA_ADDRESS), address.count, address)
    }
  }

  /// Sends everything that has no other route to the loopback.
  static func defaultRouteToLoopback(_ family: IPFamily) -> [UInt8] {
    var header = rtmsg()
    header.rtm_family = family.number
    header.rtm_table = UInt8(RT_TABLE_MAIN.rawValue)
    header.rtm_protocol = UInt8(RTPROT_STATIC)
    header.rtm_scope = UInt8((family == .v4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE).rawValue)
    header.rtm_type = UInt8(RTN_UNICAST)
    return message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, header) {
      mnl_attr_put_u32($0, UInt16(RTA_OIF.rawValue), loopbackIndex)
    }
  }

  /// Delivers everything to this host, whatever the address that it was sent to.
  /// - Parameter source: from where it is sent, unless a sender has chosen; of IPv6 the kernel finds that.
  static func deliveryOfEverything(from source: [UInt8], _ family: IPFamily) -> [UInt8] {
    var header = rtmsg()
    header.rtm_family = family.number
    // Nowhere else does an address count as this host's (`__ip_dev_find`), in whose name the kernel can
    // then say that a port is unreachable.
    header.rtm_table = UInt8(RT_TABLE_LOCAL.rawValue)
    header.rtm_protocol = UInt8(RTPROT_STATIC)
    header.rtm_scope = UInt8((family == .v4 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE).rawValue)
    header.rtm_type = UInt8(RTN_LOCAL)
    return message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, header) {
      mnl_attr_put_u32($0, UInt16(RTA_OIF.rawValue), loopbackIndex)
      if family == .v4 {
        mnl_attr_put($0, UInt16(RTA_PREFSRC.rawValue), source.count, source)
      }
    }
  }
}
