/// An address block: a base address whose bits below `prefixLength` are zero.
package struct CIDR: Hashable, Sendable {
  package let base: IPAddress
  package let prefixLength: Int

  /// The block of `prefixLength` bits that contains `address`; nil if the length exceeds the family's.
  package init?(_ address: IPAddress, prefixLength: Int) {
    guard (0...address.bitWidth).contains(prefixLength) else { return nil }
    self.prefixLength = prefixLength
    switch address {
    case .v4(let v4):
      base = .v4(IPv4Address(bits: v4.bits & ~hostMask32(prefixLength)))
    case .v6(let v6):
      let (high, low) = hostMask128(prefixLength)
      base = .v6(IPv6Address(high: v6.high & ~high, low: v6.low & ~low))
    }
  }

  /// The highest address of the block.
  package var last: IPAddress {
    switch base {
    case .v4(let v4):
      return .v4(IPv4Address(bits: v4.bits | hostMask32(prefixLength)))
    case .v6(let v6):
      let (high, low) = hostMask128(prefixLength)
      return .v6(IPv6Address(high: v6.high | high, low: v6.low | low))
    }
  }

  package func contains(_ address: IPAddress) -> Bool {
    CIDR(address, prefixLength: prefixLength)?.base == base
  }
}

private func hostMask32(_ prefixLength: Int) -> UInt32 {
  prefixLength == 0 ? .max : (1 << UInt32(32 - prefixLength)) - 1
}

private func hostMask128(_ prefixLength: Int) -> (high: UInt64, low: UInt64) {
  switch prefixLength {
  case 0: (.max, .max)
  case 1..<64: ((1 << UInt64(64 - prefixLength)) - 1, .max)
  case 64: (0, .max)
  default: (0, (1 << UInt64(128 - prefixLength)) - 1)
  }
}

extension CIDR: CustomStringConvertible, LosslessStringConvertible {
  /// Parses `address/length`, or an address alone as a block of one; host bits must be zero.
  package init?(_ text: some StringProtocol) {
    let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard let address = parts.first.flatMap({ IPAddress($0) }) else { return nil }
    guard parts.count == 2 else {
      self.init(address, prefixLength: address.bitWidth)
      return
    }
    guard let length = UInt16(decimalPort: parts[1]) else { return nil }
    self.init(address, prefixLength: Int(length))
    guard base == address else { return nil }
  }

  /// `a.b.c.d/len`, or the address alone where the block is a single address (as nft prints it).
  package var description: String {
    prefixLength == base.bitWidth ? base.description : "\(base)/\(prefixLength)"
  }
}
