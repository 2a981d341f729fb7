package import Addressing

/// Addresses in any of some blocks of either family.
package struct AddressSet: Hashable, Sendable {
  private let v4: RangeSet<IPv4Address>
  private let v6: RangeSet<IPv6Address>

  package init(_ blocks: [CIDR]) {
    var (v4, v6): ([ClosedRange<IPv4Address>], [ClosedRange<IPv6Address>]) = ([], [])
    for block in blocks {
      switch (block.base, block.last) {
      case (.v4(let base), .v4(let last)): v4.append(base...last)
      case (.v6(let base), .v6(let last)): v6.append(base...last)
      case (.v4, .v6), (.v6, .v4): preconditionFailure("a block of two families")
      }
    }
    self.v4 = RangeSet(v4)
    self.v6 = RangeSet(v6)
  }

  package var isEmpty: Bool { v4.isEmpty && v6.isEmpty }

  package func contains(_ address: IPAddress) -> Bool {
    switch address {
    case .v4(let address): v4.contains(address)
    case .v6(let address): v6.contains(address)
    }
  }
}
