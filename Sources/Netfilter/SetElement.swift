internal import Addressing
internal import CLibnftnl
internal import NFTables

/// A key of a set, or in an interval set one bound of a range.
struct SetElement: Hashable {
  let key: [UInt8]
  /// Whether this is the first key behind a range.
  var isEnd = false

  /// All keys as the kernel keeps them.
  static func all(of elements: NamedSet.Elements) -> [SetElement] {
    switch elements {
    case .hosts(_, let addresses): addresses.map { SetElement(key: $0.bytes) }
    case .ranges(_, let ranges):
      ranges.flatMap { bounds($0.first.bytes, end: $0.end?.bytes) }
    case .interfaces(let names): names.map { SetElement(key: interfaceNameBytes($0)) }
    case .interfacePatterns(let patterns):
      patterns.flatMap { bounds($0) }
    case .interfaceGroups(let numbers): numbers.map { SetElement(key: hostBytes($0)) }
    case .identities(_, let ranges): ranges.flatMap { bounds($0) }
    case .controlGroups(let groups): groups.map { SetElement(key: hostBytes($0.identifier)) }
    case .hardwareAddresses(let addresses): addresses.map { SetElement(key: $0.bytes) }
    case .ports(let ranges): ranges.flatMap { bounds($0) }
    case .icmpTypes(_, let types): types.map { SetElement(key: [$0.number]) }
    case .addressTypes(let types): types.map { SetElement(key: hostBytes($0.rawValue)) }
    }
  }

  /// - Parameter end: the first key behind the range; one that reaches the last key has none.
  private static func bounds(_ first: [UInt8], end: [UInt8]?) -> [SetElement] {
    let start = SetElement(key: first)
    return end.map { [start, SetElement(key: $0, isEnd: true)] } ?? [start]
  }

  private static func bounds<Number: FixedWidthInteger>(
    _ range: ClosedRange<Number>
  ) -> [SetElement] {
    bounds(
      networkBytes(range.lowerBound),
      end: range.upperBound == .max ? nil : networkBytes(range.upperBound + 1))
  }

  /// A name is the range of itself alone; a beginning with `*` is that of all names that follow it.
  private static func bounds(_ pattern: String) -> [SetElement] {
    let isPattern = pattern.hasSuffix("*")
    let first = interfaceNameBytes(isPattern ? String(pattern.dropLast()) : pattern)
    let fixed = isPattern ? pattern.utf8.count - 1 : interfaceNameSize
    return bounds(first, end: successor(of: first, within: fixed))
  }

  /// The first key whose leading `count` bytes are higher; nil if there is none.
  private static func successor(of key: [UInt8], within count: Int) -> [UInt8]? {
    var key = key
    for index in (0..<count).reversed() {
      if key[index] < .max {
        key[index] += 1
        return key
      }
      key[index] = 0
    }
    return nil
  }
}

/// What the keys of a set are. The kernel only keeps this for those who list the set: the numbers
/// are nft's (`enum datatypes` in its include/datatype.h).
struct KeyType {
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
    case .hardwareAddresses: (number, bytes, byteOrder) = (9, 6, .network)
    case .ports: (number, bytes, byteOrder) = (13, 2, .network)
    case .icmpTypes(.v4, _): (number, bytes, byteOrder) = (14, 1, .network)
    case .identities(.user, _): (number, bytes, byteOrder) = (24, 4, .host)
    case .identities(.group, _): (number, bytes, byteOrder) = (25, 4, .host)
    case .icmpTypes(.v6, _): (number, bytes, byteOrder) = (29, 1, .network)
    case .interfaceGroups: (number, bytes, byteOrder) = (35, 4, .host)
    case .addressTypes: (number, bytes, byteOrder) = (38, 4, .host)
    case .interfaces, .interfacePatterns:
      (number, bytes, byteOrder) = (41, UInt32(interfaceNameSize), .host)
    case .controlGroups: (number, bytes, byteOrder) = (46, 8, .host)
    }
  }

  /// The kind of set with keys of this number, without an element; nil for a type of another's.
  static func elements(_ number: UInt32, isInterval: Bool) -> NamedSet.Elements? {
    kinds.first {
      KeyType($0).number == number && NamedSet("", $0).isInterval == isInterval
    }
  }

  private static let kinds: [NamedSet.Elements] = [
    .hosts(.v4, []), .hosts(.v6, []), .ranges(.v4, []), .ranges(.v6, []), .interfaces([]),
    .interfacePatterns([]), .interfaceGroups([]), .identities(.user, []), .identities(.group, []),
    .controlGroups([]), .hardwareAddresses([]), .ports([]), .icmpTypes(.v4, []),
    .icmpTypes(.v6, []), .addressTypes([]),
  ]

  /// A type, a length and a value: without it nft cannot print interface names.
  var userData: [UInt8] {
    [UInt8(NFTNL_UDATA_SET_KEYBYTEORDER.rawValue), 4] + hostBytes(byteOrder.rawValue)
  }
}
