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
    if case .ranges = set.elements {
      nftnl_set_set_u32(object, UInt16(NFTNL_SET_FLAGS.rawValue), UInt32(NFT_SET_INTERVAL.rawValue))
    }
    append(
      Operation(name: "add set \(set.name)", feature: Feature.sets), type: NFT_MSG_NEWSET,
      flags: NLM_F_CREATE
    ) { nftnl_set_nlmsg_build_payload($0, object) }
    addElements(of: set, to: table)
  }

  private mutating func addElements(of set: NamedSet, to table: String) {
    switch set.elements {
    case .hosts(_, let addresses):
      addElements(addresses.map { Element(key: $0.bytes) }, to: set, table)
    case .ranges(_, let ranges):
      addElements(ranges.flatMap(Element.bounding), to: set, table)
    case .interfaces(let names):
      addElements(names.map { Element(key: interfaceNameBytes($0)) }, to: set, table)
    case .addressTypes(let types):
      addElements(types.map { Element(key: hostBytes($0.rawValue)) }, to: set, table)
    }
  }

  private mutating func addElements(_ elements: [Element], to set: NamedSet, _ table: String) {
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
        Operation(name: "add elements to set \(set.name)", feature: nil),
        type: NFT_MSG_NEWSETELEM, flags: NLM_F_CREATE
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

/// A key, or in an interval set one bound of a range.
private struct Element {
  let key: [UInt8]
  /// Whether this is the first key behind a range.
  var isEnd = false

  /// A range to the family's end has no key behind it.
  static func bounding(_ range: AddressRange) -> [Element] {
    let first = Element(key: range.first.bytes)
    return range.end.map { [first, Element(key: $0.bytes, isEnd: true)] } ?? [first]
  }
}

/// What the keys of a set are. The kernel only keeps this for those who list the set: the numbers
/// are nft's (`enum datatypes` in its include/datatype.h).
private struct KeyType {
  enum ByteOrder: UInt32 {
    case host = 1
    case network = 2
  }

  let number: UInt32
  let bytes: UInt32
  let byteOrder: ByteOrder

  init(_ elements: NamedSet.Elements) {
    switch elements {
    case .hosts(.v4, _), .ranges(.v4, _): (number, bytes, byteOrder) = (7, 4, .network)
    case .hosts(.v6, _), .ranges(.v6, _): (number, bytes, byteOrder) = (8, 16, .network)
    case .addressTypes: (number, bytes, byteOrder) = (38, 4, .host)
    case .interfaces: (number, bytes, byteOrder) = (41, UInt32(interfaceNameSize), .host)
    }
  }

  /// A type, a length and a value: without it nft cannot print interface names.
  var userData: [UInt8] {
    [UInt8(NFTNL_UDATA_SET_KEYBYTEORDER.rawValue), 4] + hostBytes(byteOrder.rawValue)
  }
}
