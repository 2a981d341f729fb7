internal import CLibmnl
internal import CLibnftnl
internal import CLinux

/// A question to nftables about family `inet`.
enum ReadRequest {
  case table(String)
  /// Of all tables: the kernel does not choose.
  case chains
  case rules(String)
  case sets(String)
  case elements(String, of: String)

  var bytes: [UInt8] {
    [UInt8](unsafeUninitializedCapacity: 2048) { buffer, count in
      // SAFETY: two headers and two names of at most 256 bytes fit; the header's length says what is
      // initialised.
      let header = buffer.withMemoryRebound(to: CChar.self) {
        nftnl_nlmsg_build_hdr(
          $0.baseAddress, UInt16(type.rawValue), UInt16(NFPROTO_INET), UInt16(flags), 0)
      }
      guard let header else { preconditionFailure("libnftnl gave no header") }
      addAttributes(header)
      count = Int(header.pointee.nlmsg_len)
    }
  }

  private var type: nf_tables_msg_types {
    switch self {
    case .table: NFT_MSG_GETTABLE
    case .chains: NFT_MSG_GETCHAIN
    case .rules: NFT_MSG_GETRULE
    case .sets: NFT_MSG_GETSET
    case .elements: NFT_MSG_GETSETELEM
    }
  }

  private var flags: Int32 {
    switch self {
    case .table: 0
    case .chains, .rules, .sets, .elements: NLM_F_DUMP
    }
  }

  private func addAttributes(_ header: UnsafeMutablePointer<nlmsghdr>) {
    switch self {
    case .table(let name): mnl_attr_put_strz(header, UInt16(NFTA_TABLE_NAME.rawValue), name)
    case .chains: break
    case .rules(let table): mnl_attr_put_strz(header, UInt16(NFTA_RULE_TABLE.rawValue), table)
    case .sets(let table): mnl_attr_put_strz(header, UInt16(NFTA_SET_TABLE.rawValue), table)
    case .elements(let table, let set):
      mnl_attr_put_strz(header, UInt16(NFTA_SET_ELEM_LIST_TABLE.rawValue), table)
      mnl_attr_put_strz(header, UInt16(NFTA_SET_ELEM_LIST_SET.rawValue), set)
    }
  }
}
