internal import Addressing
internal import CLibmnl
internal import CLinux
internal import LinuxIO
internal import NFTables

/// Connection tracking by ctnetlink (<linux/netfilter/nfnetlink_conntrack.h>).
enum ConnectionTracking {
  /// A flow as its first packet began it.
  struct Flow {
    enum Transport {
      case datagrams
      /// A connection that both sides have ended.
      case endedConnection
    }

    let transport: Transport
    let source: SocketAddress
    let destination: SocketAddress
    /// What deletes the entry.
    fileprivate let deletion: [UInt8]
  }

  /// The flows of datagrams and the ended connections that carry this mark.
  static func flows(
    marked mark: MaskedMark, by netfilter: borrowing NetlinkSocket
  ) throws(Errno) -> [Flow] {
    try netfilter.answers(to: dump(mark)).compactMap { flow($0, marked: mark) }
  }

  static func forget(_ flow: Flow, by netfilter: borrowing NetlinkSocket) throws(Errno) {
    // One that has gone meanwhile is what is wanted.
    _ = try netfilter.acknowledgements(to: flow.deletion, count: 1)
  }

  private static func dump(_ mark: MaskedMark) -> [UInt8] {
    RoutingMessage.message(type(IPCTNL_MSG_CT_GET), NLM_F_DUMP, nfgenmsg()) {
      mnl_attr_put_u32($0, UInt16(CTA_MARK.rawValue), mark.value.bigEndian)
      mnl_attr_put_u32($0, UInt16(CTA_MARK_MASK.rawValue), mark.mask.bigEndian)
    }
  }

  /// Nil for other flows, and for another mark, which a kernel that does not filter may send.
  private static func flow(_ message: [UInt8], marked mark: MaskedMark) -> Flow? {
    guard let entry = ParsedMessage<nfgenmsg>(message),
      let marks = entry.attributes[UInt16(CTA_MARK.rawValue)].flatMap(UInt32.init(networkBytes:)),
      marks & mark.mask == mark.value,
      let tuple = entry.attributes[UInt16(CTA_TUPLE_ORIG.rawValue)]
    else { return nil }
    let parts = parseAttributes(tuple)
    guard let family = IPFamily(entry.header.nfgen_family),
      let addresses = parts[UInt16(CTA_TUPLE_IP.rawValue)].map(parseAttributes),
      let ports = parts[UInt16(CTA_TUPLE_PROTO.rawValue)].map(parseAttributes),
      let transport = transport(ports[UInt16(CTA_PROTO_NUM.rawValue)], of: entry),
      let source = address(
        addresses[UInt16((family == .v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC).rawValue)],
        ports[UInt16(CTA_PROTO_SRC_PORT.rawValue)], family),
      let destination = address(
        addresses[UInt16((family == .v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST).rawValue)],
        ports[UInt16(CTA_PROTO_DST_PORT.rawValue)], family)
    else { return nil }
    return Flow(
      transport: transport, source: source, destination: destination,
      deletion: deletion(of: entry, tuple: tuple))
  }

  private static func transport(
    _ protocolNumber: [UInt8]?, of entry: ParsedMessage<nfgenmsg>
  ) -> Flow.Transport? {
    switch protocolNumber {
    case [UInt8(IPPROTO_UDP)]: return .datagrams
    case [UInt8(IPPROTO_TCP)]:
      let state = entry.attributes[UInt16(CTA_PROTOINFO.rawValue)].map(parseAttributes)
        .flatMap { $0[UInt16(CTA_PROTOINFO_TCP.rawValue)] }.map(parseAttributes)
        .flatMap { $0[UInt16(CTA_PROTOINFO_TCP_STATE.rawValue)] }
      return state == [UInt8(TCP_CONNTRACK_TIME_WAIT.rawValue)] ? .endedConnection : nil
    default: return nil
    }
  }

  private static func address(
    _ bytes: [UInt8]?, _ port: [UInt8]?, _ family: IPFamily
  ) -> SocketAddress? {
    guard let bytes, let address = IPAddress(family, networkBytes: bytes),
      let port, port.count == 2
    else { return nil }
    return SocketAddress(address, UInt16(port[0]) << 8 | UInt16(port[1]))
  }

  private static func deletion(of entry: ParsedMessage<nfgenmsg>, tuple: [UInt8]) -> [UInt8] {
    var header = nfgenmsg()
    header.nfgen_family = entry.header.nfgen_family
    return RoutingMessage.message(type(IPCTNL_MSG_CT_DELETE), NLM_F_ACK, header) { request in
      // SAFETY: a tuple has at most 60 bytes, which the message has room for.
      mnl_attr_put(
        request, UInt16(CTA_TUPLE_ORIG.rawValue) | UInt16(NLA_F_NESTED), tuple.count, tuple)
      if let zone = entry.attributes[UInt16(CTA_ZONE.rawValue)] {
        mnl_attr_put(request, UInt16(CTA_ZONE.rawValue), zone.count, zone)
      }
    }
  }

  private static func type(_ message: cntl_msg_types) -> Int {
    Int(NFNL_SUBSYS_CTNETLINK) << 8 | Int(message.rawValue)
  }
}
