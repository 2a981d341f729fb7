/// An IPv4 address; `bits` in host byte order, so that `192.0.2.1` is `0xC000_0201`.
package struct IPv4Address: Hashable, Sendable {
  package var bits: UInt32

  package init(bits: UInt32) { self.bits = bits }

  package static let loopback = IPv4Address(bits: 0x7F00_0001)
  package static let any = IPv4Address(bits: 0)
}

/// An IPv6 address as two 64-bit halves in host byte order; zone identifiers are not part of it.
package struct IPv6Address: Hashable, Sendable {
  package var high: UInt64
  package var low: UInt64

  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  package static let loopback = IPv6Address(high: 0, low: 1)
  package static let any = IPv6Address(high: 0, low: 0)

  /// The IPv4 address inside `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2), or nil.
  package var mappedIPv4: IPv4Address? {
    high == 0 && low >> 32 == 0xFFFF ? IPv4Address(bits: UInt32(truncatingIfNeeded: low)) : nil
  }
}

/// An address of either family.
package enum IPAddress: Hashable, Sendable {
  case v4(IPv4Address)
  case v6(IPv6Address)

  /// 32 or 128.
  package var bitWidth: Int {
    switch self {
    case .v4: 32
    case .v6: 128
    }
  }

  package var isIPv4: Bool {
    switch self {
    case .v4: true
    case .v6: false
    }
  }

  /// `127.0.0.0/8` and `::1`.
  package var isLoopback: Bool {
    switch self {
    case .v4(let address): address.bits >> 24 == 127
    case .v6(let address): address == .loopback
    }
  }

  /// `0.0.0.0` and `::`.
  package var isUnspecified: Bool {
    switch self {
    case .v4(let address): address == .any
    case .v6(let address): address == .any
    }
  }

  /// The address in network byte order: 4 or 16 bytes.
  package var bytes: [UInt8] {
    switch self {
    case .v4(let address):
      (0..<4).map { UInt8(truncatingIfNeeded: address.bits >> (24 - 8 * $0)) }
    case .v6(let address):
      (0..<8).map { UInt8(truncatingIfNeeded: address.high >> (56 - 8 * $0)) }
        + (0..<8).map { UInt8(truncatingIfNeeded: address.low >> (56 - 8 * $0)) }
    }
  }
}

extension IPv4Address: Comparable {
  package static func < (a: Self, b: Self) -> Bool { a.bits < b.bits }
}

extension IPv6Address: Comparable {
  package static func < (a: Self, b: Self) -> Bool {
    a.high != b.high ? a.high < b.high : a.low < b.low
  }
}
