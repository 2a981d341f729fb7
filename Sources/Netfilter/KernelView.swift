package import Addressing
internal import CLibmnl
internal import CLinux
package import LinuxIO
package import NFTables

/// What the kernel knows about a packet beside its bytes, asked by `rtnetlink(7)`. Needs no privilege.
package struct KernelView: ~Copyable {
  /// A routing decision for what this host sends.
  package struct Route: Hashable, Sendable {
    /// Nil: another host.
    package let type: AddressType?
    /// Nil for a route without an interface.
    package let output: String?
    /// What a sender who has not chosen gets.
    package let source: IPAddress?
  }

  private let socket: NetlinkSocket

  package init() throws(Errno) { socket = try NetlinkSocket(NETLINK_ROUTE) }

  /// What the routing tables say of a destination (`RTM_GETROUTE`).
  /// - Throws: `networkUnreachable` and the like, where they say no.
  package func route(to destination: IPAddress) throws(Errno) -> Route {
    let family: IPFamily = destination.isIPv4 ? .v4 : .v6
    var header = rtmsg()
    header.rtm_family = family.number
    header.rtm_dst_len = UInt8(destination.bitWidth)
    let request = RoutingMessage.message(RTM_GETROUTE, 0, header) {
      let bytes = destination.bytes
      mnl_attr_put($0, UInt16(RTA_DST.rawValue), bytes.count, bytes)
    }
    for answer in try socket.answers(to: request) {
      guard let parsed = ParsedMessage<rtmsg>(answer, type: RTM_NEWROUTE) else { continue }
      let output = parsed.number(UInt16(RTA_OIF.rawValue))
      let source = parsed.attributes[UInt16(RTA_PREFSRC.rawValue)]
      return Route(
        type: AddressType(rawValue: UInt32(parsed.header.rtm_type)),
        output: try output.flatMap { (index) throws(Errno) in try interface(index: index)?.name },
        source: source.flatMap { IPAddress(networkBytes: $0) })
    }
    throw .noEntry
  }

  /// An interface with its group (`RTM_GETLINK`), nil if there is none of that name.
  package func interface(named name: String) throws(Errno) -> Packet.Interface? {
    let request = RoutingMessage.message(RTM_GETLINK, 0, ifinfomsg()) {
      mnl_attr_put_strz($0, UInt16(IFLA_IFNAME), name)
    }
    return try interface(request)
  }

  private func interface(index: UInt32) throws(Errno) -> Packet.Interface? {
    var header = ifinfomsg()
    header.ifi_index = Int32(bitPattern: index)
    return try interface(RoutingMessage.message(RTM_GETLINK, 0, header) { _ in })
  }

  private func interface(_ request: [UInt8]) throws(Errno) -> Packet.Interface? {
    let answers: [[UInt8]]
    do {
      answers = try socket.answers(to: request)
    } catch .noDevice {
      return nil
    }
    for answer in answers {
      guard let parsed = ParsedMessage<ifinfomsg>(answer, type: RTM_NEWLINK),
        let name = parsed.text(UInt16(IFLA_IFNAME))
      else { continue }
      return Packet.Interface(name, group: parsed.number(UInt16(IFLA_GROUP)) ?? 0)
    }
    return nil
  }
}

extension IPAddress {
  /// 4 or 16 bytes; nil for another number.
  fileprivate init?(networkBytes bytes: [UInt8]) {
    switch bytes.count {
    case 4: self = .v4(IPv4Address(bits: bytes.reduce(0) { $0 << 8 | UInt32($1) }))
    case 16:
      self = .v6(
        IPv6Address(
          high: bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) },
          low: bytes.suffix(8).reduce(0) { $0 << 8 | UInt64($1) }))
    default: return nil
    }
  }
}
