package import Addressing

/// A set that rules look things up in.
package struct NamedSet: Hashable, Sendable {
  /// What a set holds, each kind in the order in which nft lists it. Ranges neither overlap nor touch.
  package enum Elements: Hashable, Sendable {
    case hosts(IPFamily, [IPAddress])
    case ranges(IPFamily, [AddressRange])
    case interfaces([String])
    /// Names, and beginnings of names with a `*` behind them; none is covered by another.
    case interfacePatterns([String])
    /// Group numbers of interfaces.
    case interfaceGroups([UInt32])
    case identities(SocketOwnerLookup.Identity, [ClosedRange<UInt32>])
    case controlGroups([ControlGroup])
    case hardwareAddresses([HardwareAddress])
    case ports([ClosedRange<UInt16>])
    case icmpTypes(IPFamily, [ICMPType])
    case addressTypes([AddressType])
  }

  package let name: String
  package let elements: Elements

  /// - Parameter elements: in the order and as apart as `Elements` wants them.
  package init(_ name: String, _ elements: Elements) {
    self.name = name
    self.elements = elements
  }

  package init(_ name: String, hosts: some Sequence<IPAddress>, _ family: IPFamily) {
    let unique = Set(hosts.filter { $0.family == family })
    self.init(name, .hosts(family, unique.sorted { $0.precedes($1) }))
  }

  package init(_ name: String, blocks: some Sequence<CIDR>, _ family: IPFamily) {
    self.init(name, .ranges(family, AddressRange.merging(blocks, family)))
  }

  /// - Parameter interfaces: names, or beginnings of names with a `*` behind them.
  package init(_ name: String, interfaces: some Sequence<String>) {
    let unique = Set(interfaces)
    guard unique.contains(where: isPattern) else {
      // nft sorts names as the little-endian numbers that it takes them for.
      let ascending = unique.map { Array($0.utf8) }.sorted { a, b in
        a.count != b.count
          ? a.count < b.count : a.reversed().lexicographicallyPrecedes(b.reversed())
      }
      self.init(name, .interfaces(ascending.map { String(decoding: $0, as: UTF8.self) }))
      return
    }
    let beginnings = unique.filter(isPattern).map { $0.dropLast() }
    let needed = unique.filter { text in
      !beginnings.contains { text.hasPrefix($0) && text != $0 + "*" }
    }
    let ascending = needed.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    self.init(name, .interfacePatterns(ascending))
  }

  package init(_ name: String, interfaceGroups: some Sequence<UInt32>) {
    self.init(name, .interfaceGroups(Set(interfaceGroups).sorted()))
  }

  package init(
    _ name: String, _ identity: SocketOwnerLookup.Identity,
    _ numbers: some Sequence<ClosedRange<UInt32>>
  ) {
    self.init(name, .identities(identity, merging(numbers)))
  }

  package init(_ name: String, controlGroups: some Sequence<ControlGroup>) {
    self.init(name, .controlGroups(Set(controlGroups).sorted { $0.identifier < $1.identifier }))
  }

  package init(_ name: String, hardwareAddresses: some Sequence<HardwareAddress>) {
    self.init(name, .hardwareAddresses(Set(hardwareAddresses).sorted()))
  }

  package init(_ name: String, ports: some Sequence<ClosedRange<UInt16>>) {
    self.init(name, .ports(merging(ports)))
  }

  package init(_ name: String, icmpTypes: some Sequence<ICMPType>, _ family: IPFamily) {
    let unique = Set(icmpTypes.filter { $0.family == family })
    self.init(name, .icmpTypes(family, unique.sorted { $0.number < $1.number }))
  }

  package init(_ name: String, addressTypes: some Sequence<AddressType>) {
    self.init(name, .addressTypes(Set(addressTypes).sorted { $0.rawValue < $1.rawValue }))
  }
}

/// Whether an interface is meant by the beginning of its name.
private func isPattern(_ text: String) -> Bool { text.hasSuffix("*") }

/// The fewest ranges that cover the same numbers, in ascending order.
private func merging<Number: FixedWidthInteger>(
  _ ranges: some Sequence<ClosedRange<Number>>
) -> [ClosedRange<Number>] {
  var merged: [ClosedRange<Number>] = []
  for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
    guard let previous = merged.last else {
      merged.append(range)
      continue
    }
    if previous.upperBound == .max { break }
    if previous.upperBound + 1 < range.lowerBound {
      merged.append(range)
    } else if previous.upperBound < range.upperBound {
      merged[merged.count - 1] = previous.lowerBound...range.upperBound
    }
  }
  return merged
}

extension NamedSet {
  /// Whether the kernel keeps the elements as intervals.
  package var isInterval: Bool {
    switch elements {
    case .ranges, .interfacePatterns, .identities, .ports: true
    case .hosts, .interfaces, .interfaceGroups, .controlGroups, .hardwareAddresses, .icmpTypes,
      .addressTypes:
      false
    }
  }
}

extension NamedSet: CustomStringConvertible {
  package var description: String {
    var lines = properties
    let texts = elementTexts
    if !texts.isEmpty { lines.append("elements = { \(wrapped(texts)) }") }
    return "\tset \(name) {\n" + lines.map { "\t\t\($0)\n" }.joined() + "\t}"
  }

  /// Its properties and each element, as nft writes them.
  var lines: [String] { properties + elementTexts }

  private var properties: [String] {
    ["type \(typeName)"] + (isInterval ? ["flags interval"] : [])
  }

  private var typeName: String {
    switch elements {
    case .hosts(let family, _), .ranges(let family, _):
      family == .v4 ? "ipv4_addr" : "ipv6_addr"
    case .interfaces, .interfacePatterns: "ifname"
    case .interfaceGroups: "devgroup"
    case .identities(let identity, _): identity == .user ? "uid" : "gid"
    case .controlGroups: "cgroupsv2"
    case .hardwareAddresses: "ether_addr"
    case .ports: "inet_service"
    case .icmpTypes(let family, _): family == .v4 ? "icmp_type" : "icmpv6_type"
    case .addressTypes: "fib_addrtype"
    }
  }

  var elementTexts: [String] {
    switch elements {
    case .hosts(_, let addresses): addresses.map(\.description)
    case .ranges(_, let ranges): ranges.map(\.description)
    case .interfaces(let names), .interfacePatterns(let names): names.map { "\"\($0)\"" }
    case .interfaceGroups(let numbers): numbers.map(\.description)
    case .identities(_, let ranges): ranges.map(text)
    case .controlGroups(let groups): groups.map { "\"\($0.path)\"" }
    case .hardwareAddresses(let addresses): addresses.map(\.description)
    case .ports(let ranges): ranges.map(text)
    case .icmpTypes(_, let types): types.map(\.name)
    case .addressTypes(let types): types.map { "\($0)" }
    }
  }

  func text<Number: FixedWidthInteger>(_ range: ClosedRange<Number>) -> String {
    range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
  }

  /// nft lists five numbers or two IPv4 elements on a line, and one of any other type.
  private func wrapped(_ texts: [String]) -> String {
    let perLine =
      switch elements {
      case .hosts(.v4, _), .ranges(.v4, _): 2
      case .identities, .ports: 5
      default: 1
      }
    let lines = stride(from: 0, to: texts.count, by: perLine).map { start in
      texts[start..<min(start + perLine, texts.count)].joined(separator: ", ")
    }
    return lines.joined(separator: ",\n\t\t\t     ")
  }
}

extension NamedSet.Elements {
  /// Those that `other` does not have; nil if it is of another kind.
  package func subtracting(_ other: NamedSet.Elements) -> NamedSet.Elements? {
    func difference<Element: Hashable>(_ ours: [Element], _ theirs: [Element]) -> [Element] {
      let theirs = Set(theirs)
      return ours.filter { !theirs.contains($0) }
    }
    return switch (self, other) {
    case (.hosts(let family, let a), .hosts(let other, let b)) where family == other:
      .hosts(family, difference(a, b))
    case (.ranges(let family, let a), .ranges(let other, let b)) where family == other:
      .ranges(family, difference(a, b))
    case (.interfaces(let a), .interfaces(let b)): .interfaces(difference(a, b))
    case (.interfacePatterns(let a), .interfacePatterns(let b)):
      .interfacePatterns(difference(a, b))
    case (.interfaceGroups(let a), .interfaceGroups(let b)): .interfaceGroups(difference(a, b))
    case (.identities(let identity, let a), .identities(let other, let b)) where identity == other:
      .identities(identity, difference(a, b))
    case (.controlGroups(let a), .controlGroups(let b)): .controlGroups(difference(a, b))
    case (.hardwareAddresses(let a), .hardwareAddresses(let b)):
      .hardwareAddresses(difference(a, b))
    case (.ports(let a), .ports(let b)): .ports(difference(a, b))
    case (.icmpTypes(let family, let a), .icmpTypes(let other, let b)) where family == other:
      .icmpTypes(family, difference(a, b))
    case (.addressTypes(let a), .addressTypes(let b)): .addressTypes(difference(a, b))
    default: nil
    }
  }
}
