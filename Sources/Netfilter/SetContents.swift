internal import CLibnftnl
internal import CLinux
internal import NFTables

// A set as the kernel describes it: first its properties, then its elements in as many messages as they
// take.

/// The properties of a set.
struct SetHeader {
  let name: String
  let isAnonymous: Bool
  let isInterval: Bool
  /// Nil for a type that is none of ours.
  private let kind: NamedSet.Elements?
  private let remarks: [String]

  /// - Parameters:
  ///   - object: an `nftnl_set`.
  ///   - remarks: what else is to be said of it.
  init(_ object: OpaquePointer, remarks: [String]) {
    let flags = nftnl_set_get_u32(object, UInt16(NFTNL_SET_FLAGS.rawValue))
    let type = nftnl_set_get_u32(object, UInt16(NFTNL_SET_KEY_TYPE.rawValue))
    let bytes = nftnl_set_get_u32(object, UInt16(NFTNL_SET_KEY_LEN.rawValue))
    name = text(nftnl_set_get_str(object, UInt16(NFTNL_SET_NAME.rawValue)))
    isAnonymous = flags & UInt32(NFT_SET_ANONYMOUS.rawValue) != 0
    isInterval = flags & UInt32(NFT_SET_INTERVAL.rawValue) != 0
    let elements = KeyType.elements(type, isInterval: isInterval)
    kind = elements.flatMap { KeyType($0).bytes == bytes ? $0 : nil }
    var remarks = remarks
    if kind == nil { remarks.append("type [ \(type), \(bytes) bytes ]") }
    let others = flags & ~UInt32(NFT_SET_INTERVAL.rawValue)
    if others != 0 { remarks.append("flags [ \(others) ]") }
    for (attribute, remark) in [
      (NFTNL_SET_DESC_SIZE, "size"), (NFTNL_SET_TIMEOUT, "timeout"),
      (NFTNL_SET_GC_INTERVAL, "gc-interval"), (NFTNL_SET_POLICY, "policy"),
      (NFTNL_SET_EXPR, "expression"), (NFTNL_SET_EXPRESSIONS, "expressions"),
    ] where nftnl_set_is_set(object, UInt16(attribute.rawValue)) {
      remarks.append("[ \(remark) ]")
    }
    if let kind, Self.userData(of: object) != KeyType(kind).userData {
      remarks.append("[ user data ]")
    }
    self.remarks = remarks
  }

  /// The set with what it contains.
  func set(_ contents: SetContents) -> FoundTable.FoundSet {
    guard let kind else {
      return FoundTable.FoundSet(
        name, nil, remarks: remarks + contents.remarks + contents.keyTexts)
    }
    var decoder = SetDecoder(kind)
    let elements = isInterval ? decoder.elements(contents.bounds) : decoder.elements(contents.keys)
    return FoundTable.FoundSet(
      name, NamedSet(name, elements), remarks: remarks + contents.remarks + decoder.remarks)
  }

  private static func userData(of object: OpaquePointer) -> [UInt8] {
    var count: UInt32 = 0
    guard let start = nftnl_set_get_data(object, UInt16(NFTNL_SET_USERDATA.rawValue), &count)
    else { return [] }
    // SAFETY: libnftnl says how many bytes there are; they are copied while the set lives.
    return Array(UnsafeRawBufferPointer(start: start, count: Int(count)))
  }
}

/// The elements of a set.
struct SetContents {
  private let isInterval: Bool
  /// Of a set of intervals.
  private(set) var bounds: [SetDecoder.Bound] = []
  /// Of any other.
  private(set) var keys: [[UInt8]] = []
  /// Of elements with more than a key.
  private(set) var remarks: [String] = []

  init(isInterval: Bool) { self.isInterval = isInterval }

  /// Of elements whose type is unknown.
  var keyTexts: [String] {
    keys.map { "element \(hexadecimal($0))" }
      + bounds.map { "\($0.isEnd ? "end" : "element") [ \($0.key) ]" }
  }

  /// - Parameters:
  ///   - object: an `nftnl_set` with the elements of one message.
  ///   - remarks: what else is to be said of them.
  mutating func add(_ object: OpaquePointer, remarks: [String]) {
    self.remarks += remarks
    let iterator = allocated(nftnl_set_elems_iter_create(object))
    defer { nftnl_set_elems_iter_destroy(iterator) }
    while let element = nftnl_set_elems_iter_next(iterator) { addElement(element) }
  }

  private mutating func addElement(_ element: OpaquePointer) {
    var count: UInt32 = 0
    let start = nftnl_set_elem_get(element, UInt16(NFTNL_SET_ELEM_KEY), &count)
    // SAFETY: libnftnl says how many bytes there are; they are read while the element lives.
    let key = UnsafeRawBufferPointer(start: start, count: Int(count))
    // libnftnl follows a null pointer where an element has no flags.
    let flags =
      nftnl_set_elem_is_set(element, UInt16(NFTNL_SET_ELEM_FLAGS))
      ? nftnl_set_elem_get_u32(element, UInt16(NFTNL_SET_ELEM_FLAGS)) : 0
    let end = UInt32(NFT_SET_ELEM_INTERVAL_END.rawValue)
    var extras = Self.extras.filter { nftnl_set_elem_is_set(element, UInt16($0.attribute)) }
      .map(\.name)
    if Self.hasMore(element) { extras.append("user data") }
    if !extras.isEmpty || flags & ~end != 0 || key.isEmpty {
      let words = extras + (flags & ~end != 0 ? ["flags \(flags & ~end)"] : [])
      remarks.append("element \(hexadecimal(Array(key))) [ \(words.joined(separator: ", ")) ]")
    }
    if key.isEmpty { return }
    if isInterval && key.count <= 16 {
      bounds.append(
        SetDecoder.Bound(key: key.reduce(0) { $0 << 8 | UInt128($1) }, isEnd: flags & end != 0))
    } else {
      keys.append(Array(key))
    }
  }

  /// What ours do not have.
  private static let extras: [(attribute: Int, name: String)] = [
    (NFTNL_SET_ELEM_VERDICT, "verdict"), (NFTNL_SET_ELEM_DATA, "data"),
    (NFTNL_SET_ELEM_TIMEOUT, "timeout"), (NFTNL_SET_ELEM_EXPR, "expression"),
    (NFTNL_SET_ELEM_EXPRESSIONS, "expressions"), (NFTNL_SET_ELEM_OBJREF, "object"),
    (NFTNL_SET_ELEM_KEY_END, "key end"),
  ]

  /// Whether there is user data beyond nft's note that a range reaches the last key
  /// (`NFTNL_SET_ELEM_F_INTERVAL_OPEN`), which says nothing new.
  private static func hasMore(_ element: OpaquePointer) -> Bool {
    var count: UInt32 = 0
    guard let start = nftnl_set_elem_get(element, UInt16(NFTNL_SET_ELEM_USERDATA), &count)
    else { return false }
    // SAFETY: libnftnl says how many bytes there are; they are read while the element lives.
    let data = UnsafeRawBufferPointer(start: start, count: Int(count))
    let intervalOpen: UInt32 = 1
    return !data.elementsEqual(
      [UInt8(NFTNL_UDATA_SET_ELEM_FLAGS.rawValue), 4] + hostBytes(intervalOpen))
  }
}
