internal import Addressing
internal import LinuxIO
internal import NFTables

/// Turns the kernel's keys back into elements: the reverse of `SetElement`.
struct SetDecoder {
  /// A key as a big-endian number, and whether it is the first one behind a range.
  struct Bound: Hashable, Comparable {
    let key: UInt128
    let isEnd: Bool

    /// Where one range ends and the next begins, the end comes first.
    static func < (a: Bound, b: Bound) -> Bool {
      a.key != b.key ? a.key < b.key : a.isEnd && !b.isEnd
    }
  }

  /// Elements of the same kind, those of this value left out.
  let kind: NamedSet.Elements
  /// What `elements` cannot say.
  private(set) var remarks: [String] = []

  init(_ kind: NamedSet.Elements) { self.kind = kind }

  /// - Parameter keys: of a set without intervals, in any order.
  mutating func elements(_ keys: [[UInt8]]) -> NamedSet.Elements {
    switch kind {
    case .hosts(let family, _):
      NamedSet("", hosts: decode(keys) { IPAddress(family, networkBytes: $0) }, family).elements
    case .interfaces: NamedSet("", interfaces: decode(keys, interfaceName)).elements
    case .interfaceGroups:
      NamedSet("", interfaceGroups: decode(keys) { UInt32(hostBytes: $0) }).elements
    case .controlGroups: NamedSet("", controlGroups: controlGroups(keys)).elements
    case .hardwareAddresses:
      NamedSet("", hardwareAddresses: decode(keys) { HardwareAddress(bytes: $0) }).elements
    case .icmpTypes(let family, _):
      NamedSet(
        "", icmpTypes: decode(keys) { $0.count == 1 ? ICMPType(family, number: $0[0]) : nil },
        family
      ).elements
    case .addressTypes:
      NamedSet(
        "",
        addressTypes: decode(keys) { UInt32(hostBytes: $0).flatMap(AddressType.init(rawValue:)) }
      ).elements
    case .ranges, .interfacePatterns, .identities, .ports:
      preconditionFailure("a set of intervals has bounds")
    }
  }

  /// - Parameter bounds: of a set of intervals, in any order.
  mutating func elements(_ bounds: [Bound]) -> NamedSet.Elements {
    switch kind {
    case .ranges(let family, _):
      .ranges(
        family,
        Self.ranges(bounds, keyBits: family == .v4 ? 32 : 128).map {
          AddressRange(
            first: IPAddress(family, bits: $0.lowerBound),
            last: IPAddress(family, bits: $0.upperBound))
        })
    case .interfacePatterns: .interfacePatterns(patterns(Self.ranges(bounds, keyBits: 128)))
    case .identities(let identity, _):
      .identities(
        identity,
        Self.ranges(bounds, keyBits: 32).map { UInt32($0.lowerBound)...UInt32($0.upperBound) })
    case .ports:
      .ports(
        Self.ranges(bounds, keyBits: 16).map { UInt16($0.lowerBound)...UInt16($0.upperBound) })
    case .hosts, .interfaces, .interfaceGroups, .controlGroups, .hardwareAddresses, .icmpTypes,
      .addressTypes:
      preconditionFailure("a set without intervals has keys")
    }
  }

  // MARK: Pieces

  private mutating func decode<Element>(_ keys: [[UInt8]], _ element: ([UInt8]) -> Element?)
    -> [Element]
  {
    var elements: [Element] = []
    for key in keys {
      if let element = element(key) {
        elements.append(element)
      } else {
        remarks.append("element \(hexadecimal(key))")
      }
    }
    return elements
  }

  /// A group that is gone has its number for a path.
  private mutating func controlGroups(_ keys: [[UInt8]]) -> [ControlGroup] {
    let numbers = decode(keys) { UInt64(hostBytes: $0) }
    if numbers.isEmpty { return [] }
    let groups = ControlGroups()
    let paths = groups?.paths(of: Set(numbers)) ?? [:]
    return numbers.map { number in
      let path = paths[number]
      return ControlGroup(
        path: path.flatMap { groups?.pathForRules($0) } ?? "\(number)",
        level: UInt32(path?.split(separator: "/").count ?? 1), identifier: number)
    }
  }

  /// nft puts an end before the first range; a range that reaches the last key has none.
  private static func ranges(_ bounds: [Bound], keyBits: Int) -> [ClosedRange<UInt128>] {
    var ranges: [ClosedRange<UInt128>] = []
    ranges.reserveCapacity(bounds.count / 2)
    var start: UInt128?
    for bound in bounds.sorted() {
      if let first = start, first < bound.key { ranges.append(first...bound.key - 1) }
      start = bound.isEnd ? nil : bound.key
    }
    if let start { ranges.append(start...UInt128.max >> (128 - keyBits)) }
    return ranges
  }

  /// A name is the range of itself alone; a beginning is that of all names that follow it.
  private mutating func patterns(_ ranges: [ClosedRange<UInt128>]) -> [String] {
    var patterns: [String] = []
    for range in ranges {
      let bytes = networkBytes(range.lowerBound)
      let open = range.lowerBound ^ range.upperBound
      let beginning = bytes.prefix { $0 != 0 }
      if open == 0, let name = interfaceName(bytes) {
        patterns.append(name)
      } else if open == UInt128.max >> (8 * beginning.count), range.lowerBound & open == 0,
        let text = String(validating: beginning, as: UTF8.self)
      {
        patterns.append("\(text)*")
      } else {
        remarks.append(
          "element \(hexadecimal(bytes))-\(hexadecimal(networkBytes(range.upperBound)))")
      }
    }
    return patterns
  }
}

/// `0x` and two digits for each byte.
func hexadecimal(_ bytes: [UInt8]) -> String {
  "0x" + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
