package import Addressing

/// The addresses from `first` to `last`, both included and of one family.
package struct AddressRange: Hashable, Sendable {
  package let first: IPAddress
  package let last: IPAddress

  /// - Parameter last: of the family of `first`, and not below it.
  package init(first: IPAddress, last: IPAddress) {
    self.first = first
    self.last = last
  }

  package init(_ block: CIDR) {
    self.init(first: block.base, last: block.last)
  }

  /// The address behind the last one; nil where the range reaches the family's end.
  package var end: IPAddress? { last.successor }

  /// The fewest ranges that cover the blocks of one family and nothing else, in ascending order:
  /// no two of them overlap or touch.
  package static func merging(_ blocks: some Sequence<CIDR>, _ family: IPFamily) -> [AddressRange] {
    let ascending = blocks.filter { $0.base.family == family }.map(AddressRange.init)
      .sorted { $0.first.precedes($1.first) }
    var merged: [AddressRange] = []
    for range in ascending {
      guard let previous = merged.last else {
        merged.append(range)
        continue
      }
      guard let end = previous.end else { break }
      if end.precedes(range.first) {
        merged.append(range)
      } else if previous.last.precedes(range.last) {
        merged[merged.count - 1] = AddressRange(first: previous.first, last: range.last)
      }
    }
    return merged
  }
}

extension AddressRange: CustomStringConvertible {
  /// An address, a block or `first-last`, whichever is the simplest, as nft lists an interval.
  package var description: String {
    for length in 0...first.bitWidth {
      if let block = CIDR(first, prefixLength: length), block.base == first, block.last == last {
        return block.description
      }
    }
    return "\(first)-\(last)"
  }
}

extension IPAddress {
  package var family: IPFamily { isIPv4 ? .v4 : .v6 }

  /// Whether this is below `other`; an IPv4 address is below every IPv6 address.
  func precedes(_ other: IPAddress) -> Bool {
    switch (self, other) {
    case (.v4(let a), .v4(let b)): a < b
    case (.v6(let a), .v6(let b)): a < b
    case (.v4, .v6): true
    case (.v6, .v4): false
    }
  }

  fileprivate var successor: IPAddress? {
    switch self {
    case .v4(let address):
      return address.bits == .max ? nil : .v4(IPv4Address(bits: address.bits + 1))
    case .v6(let address):
      let (low, carry) = address.low.addingReportingOverflow(1)
      let (high, overflow) = address.high.addingReportingOverflow(carry ? 1 : 0)
      return overflow ? nil : .v6(IPv6Address(high: high, low: low))
    }
  }
}
