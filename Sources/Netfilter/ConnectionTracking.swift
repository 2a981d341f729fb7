internal import CLibmnl
internal import CLinux
internal import LinuxIO
internal import NFTables

/// Connection tracking by ctnetlink (<linux/netfilter/nfnetlink_conntrack.h>).
enum ConnectionTracking {
  /// Forgets the datagram flows that carry this mark. While they were captured nothing translated them,
  /// and connection tracking decides that with the first packet of a flow: on a gateway that translates
  /// the addresses of its LAN they would leave with those as long as they go on.
  static func forgetDatagrams(
    marked mark: MaskedMark, by netfilter: borrowing NetlinkSocket
  ) throws(Errno) {
    for message in try netfilter.answers(to: dump(mark)) {
      guard let deletion = deletion(of: message, marked: mark) else { continue }
      // One that has gone meanwhile is what is wanted.
      _ = try netfilter.acknowledgements(to: deletion, count: 1)
    }
  }

  private static func dump(_ mark: MaskedMark) -> [UInt8] {
    RoutingMessage.message(type(IPCTNL_MSG_CT_GET), NLM_F_DUMP, nfgenmsg()) {
      mnl_attr_put_u32($0, UInt16(CTA_MARK.rawValue), mark.value.bigEndian)
      mnl_attr_put_u32($0, UInt16(CTA_MARK_MASK.rawValue), mark.mask.bigEndian)
    }
  }

  /// The request that deletes the flow of a message; nil for another protocol or another mark, which a
  /// kernel that does not filter may send.
  private static func deletion(of message: [UInt8], marked mark: MaskedMark) -> [UInt8]? {
    guard let entry = ParsedMessage<nfgenmsg>(message),
      let tuple = entry.attributes[UInt16(CTA_TUPLE_ORIG.rawValue)],
      let transport = parseAttributes(tuple)[UInt16(CTA_TUPLE_PROTO.rawValue)],
      parseAttributes(transport)[UInt16(CTA_PROTO_NUM.rawValue)] == [UInt8(IPPROTO_UDP)],
      let marks = entry.attributes[UInt16(CTA_MARK.rawValue)].flatMap(UInt32.init(networkBytes:)),
      marks & mark.mask == mark.value
    else { return nil }
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
