package import Addressing

/// A set that rules look things up in.
package struct NamedSet: Hashable, Sendable {
  /// What a set holds, each kind in the order in which nft lists it.
  package enum Elements: Hashable, Sendable {
    case hosts(IPFamily, [IPAddress])
    /// Ranges that neither overlap nor touch.
    case ranges(IPFamily, [AddressRange])
    case interfaces([String])
    case addressTypes([AddressType])
  }

  package let name: String
  package let elements: Elements

  package init(_ name: String, hosts: some Sequence<IPAddress>, _ family: IPFamily) {
    self.name = name
    let unique = Set(hosts.filter { $0.family == family })
    elements = .hosts(family, unique.sorted { $0.precedes($1) })
  }

  package init(_ name: String, blocks: some Sequence<CIDR>, _ family: IPFamily) {
    self.name = name
    elements = .ranges(family, AddressRange.merging(blocks, family))
  }

  package init(_ name: String, interfaces: some Sequence<String>) {
    self.name = name
    // nft sorts names as the little-endian numbers that it takes them for.
    let unique = Set(interfaces.map { Array($0.utf8) })
    let ascending = unique.sorted { a, b in
      a.count != b.count ? a.count < b.count : a.reversed().lexicographicallyPrecedes(b.reversed())
    }
    elements = .interfaces(ascending.map { String(decoding: $0, as: UTF8.self) })
  }

  package init(_ name: String, addressTypes: some Sequence<AddressType>) {
    self.name = name
    elements = .addressTypes(Set(addressTypes).sorted { $0.rawValue < $1.rawValue })
  }
}

/// What the routing tables say of an address (`RTN_*` in <linux/rtnetlink.h>).
package enum AddressType: UInt32, Hashable, Sendable {
  case local = 2
  case broadcast = 3
  case anycast = 4
  case multicast = 5
}

extension NamedSet: CustomStringConvertible {
  package var description: String {
    var lines = ["type \(typeName)"]
    if case .ranges = elements { lines.append("flags interval") }
    let texts = elementTexts
    if !texts.isEmpty { lines.append("elements = { \(wrapped(texts)) }") }
    return "\tset \(name) {\n" + lines.map { "\t\t\($0)\n" }.joined() + "\t}"
  }

  private var typeName: String {
    switch elements {
    case .hosts(let family, _), .ranges(let family, _):
      family == .v4 ? "ipv4_addr" : "ipv6_addr"
    case .interfaces: "ifname"
    case .addressTypes: "fib_addrtype"
    }
  }

  private var elementTexts: [String] {
    switch elements {
    case .hosts(_, let addresses): addresses.map(\.description)
    case .ranges(_, let ranges): ranges.map(\.description)
    case .interfaces(let names): names.map { "\"\($0)\"" }
    case .addressTypes(let types): types.map { "\($0)" }
    }
  }

  /// nft lists two IPv4 elements on a line, and one of any other type.
  private func wrapped(_ texts: [String]) -> String {
    let perLine = typeName == "ipv4_addr" ? 2 : 1
    let lines = stride(from: 0, to: texts.count, by: perLine).map { start in
      texts[start..<min(start + perLine, texts.count)].joined(separator: ", ")
    }
    return lines.joined(separator: ",\n\t\t\t     ")
  }
}
