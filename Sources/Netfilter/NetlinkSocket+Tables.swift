internal import CLibmnl
internal import CLibnftnl
internal import CLinux
internal import LinuxIO

extension NetlinkSocket {
  /// Who owns a table of family `inet`: a netlink port, zero for nobody; nil if there is no such table.
  func owner(of table: String) throws(NetfilterError) -> UInt32? {
    let answers: [[UInt8]]
    do {
      answers = try self.answers(to: ReadRequest.table(table).bytes)
    } catch .noEntry {
      return nil
    } catch .notPermitted {
      throw .notPermitted
    } catch {
      throw .unsupported(feature: "nftables (CONFIG_NF_TABLES)", error)
    }
    guard let answer = answers.first else { return nil }
    let object = allocated(nftnl_table_alloc())
    defer { nftnl_table_free(object) }
    return answer.withUnsafeBytes { bytes in
      // SAFETY: the bytes are one whole message, whose header states their count; an array's storage is
      // aligned for it.
      guard let header = bytes.baseAddress?.assumingMemoryBound(to: nlmsghdr.self),
        nftnl_table_nlmsg_parse(header, object) == 0,
        nftnl_table_is_set(object, UInt16(NFTNL_TABLE_OWNER.rawValue))
      else { return 0 }
      return nftnl_table_get_u32(object, UInt16(NFTNL_TABLE_OWNER.rawValue))
    }
  }

  /// A number that goes up by one with every transaction of anybody in this network namespace.
  func generation() throws(NetfilterError) -> UInt32 {
    let answers: [[UInt8]]
    do {
      answers = try self.answers(to: Self.generationRequest)
    } catch {
      throw .failed(operation: "ask for the generation of the rules", error)
    }
    let message = answers.first.flatMap { ParsedMessage<nfgenmsg>($0) }
    return UInt32(bigEndian: message?.number(UInt16(NFTA_GEN_ID.rawValue)) ?? 0)
  }

  private static var generationRequest: [UInt8] {
    [UInt8](unsafeUninitializedCapacity: 64) { buffer, count in
      // SAFETY: two headers fit; the header's length says what is initialised.
      let header = buffer.withMemoryRebound(to: CChar.self) {
        nftnl_nlmsg_build_hdr(
          $0.baseAddress, UInt16(NFT_MSG_GETGEN.rawValue), UInt16(AF_UNSPEC), 0, 0)
      }
      guard let header else { preconditionFailure("libnftnl gave no header") }
      count = Int(header.pointee.nlmsg_len)
    }
  }
}
