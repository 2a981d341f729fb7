internal import Addressing
internal import CLibmnl
internal import CLibnftnl
internal import CLinux
internal import NFTables

// A set's definition and its elements as messages.

extension Transaction {
  /// Intervals in one message: each takes two elements of up to 40 bytes, and the list's length is
  /// an attribute's, which has 16 bits.
  private static let maximumElements = 700

  mutating func add(_ set: NamedSet, to table: String) {
    let object = makeSet(set.name, table)
    defer { nftnl_set_free(object) }
    let key = KeyType(set.elements)
    nftnl_set_set_u32(object, UInt16(NFTNL_SET_FAMILY.rawValue), UInt32(NFPROTO_INET))
    nftnl_set_set_u32(object, UInt16(NFTNL_SET_KEY_TYPE.rawValue), key.number)
    nftnl_set_set_u32(object, UInt16(NFTNL_SET_KEY_LEN.rawValue), key.bytes)
    nftnl_set_set_u32(object, UInt16(NFTNL_SET_ID.rawValue), setIdentifier)
    let userData = key.userData
    nftnl_set_set_data(
      object, UInt16(NFTNL_SET_USERDATA.rawValue), userData, UInt32(userData.count))
    if set.isInterval {
      nftnl_set_set_u32(object, UInt16(NFTNL_SET_FLAGS.rawValue), UInt32(NFT_SET_INTERVAL.rawValue))
    }
    append(
      Operation(name: "add set \(set.name)", feature: Feature.sets), type: NFT_MSG_NEWSET,
      flags: NLM_F_CREATE
    ) { nftnl_set_nlmsg_build_payload($0, object) }
    change(set, in: table)
  }

  /// Adds elements of an existing set, or takes some away.
  mutating func change(
    _ set: NamedSet, in table: String, _ message: nf_tables_msg_types = NFT_MSG_NEWSETELEM
  ) {
    let elements = SetElement.all(of: set.elements)
    let isAddition = message == NFT_MSG_NEWSETELEM
    for start in stride(from: 0, to: elements.count, by: Self.maximumElements) {
      let object = makeSet(set.name, table)
      defer { nftnl_set_free(object) }
      for element in elements[start..<min(start + Self.maximumElements, elements.count)] {
        // The set frees its elements.
        let item = allocated(nftnl_set_elem_alloc())
        nftnl_set_elem_set(
          item, UInt16(NFTNL_SET_ELEM_KEY), element.key, UInt32(element.key.count))
        if element.isEnd {
          nftnl_set_elem_set_u32(
            item, UInt16(NFTNL_SET_ELEM_FLAGS), UInt32(NFT_SET_ELEM_INTERVAL_END.rawValue))
        }
        nftnl_set_elem_add(object, item)
      }
      append(
        Operation(
          name: "\(isAddition ? "add elements to" : "delete elements of") set \(set.name)",
          feature: nil),
        type: message, flags: isAddition ? NLM_F_CREATE : 0
      ) { nftnl_set_elems_nlmsg_build_payload($0, object) }
    }
  }

  private func makeSet(_ name: String, _ table: String) -> OpaquePointer {
    let object = allocated(nftnl_set_alloc())
    nftnl_set_set_str(object, UInt16(NFTNL_SET_TABLE.rawValue), table)
    nftnl_set_set_str(object, UInt16(NFTNL_SET_NAME.rawValue), name)
    return object
  }
}
