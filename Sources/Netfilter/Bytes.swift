internal import Addressing
internal import NFTables

// Values as registers and set keys hold them.

/// IFNAMSIZ (<linux/if.h>).
let interfaceNameSize = 16

/// A name filled up with zeros, as the kernel compares it.
func interfaceNameBytes(_ name: String) -> [UInt8] {
  let bytes = Array(name.utf8.prefix(interfaceNameSize - 1))
  return bytes + Array(repeating: 0, count: interfaceNameSize - bytes.count)
}

/// A number in host byte order.
func hostBytes(_ value: some FixedWidthInteger) -> [UInt8] {
  withUnsafeBytes(of: value) { Array($0) }
}

/// A number in network byte order.
func networkBytes(_ value: some FixedWidthInteger) -> [UInt8] { hostBytes(value.bigEndian) }

/// The name that fills a register or key with zeros behind it; nil where that is none.
func interfaceName(_ bytes: [UInt8]) -> String? {
  let name = bytes.prefix { $0 != 0 }
  guard bytes.count == interfaceNameSize, !name.isEmpty, name.count < interfaceNameSize,
    bytes[name.count...].allSatisfy({ $0 == 0 })
  else { return nil }
  let text = String(decoding: name, as: UTF8.self)
  return text.utf8.elementsEqual(name) ? text : nil
}

extension FixedWidthInteger {
  /// Nil for another number of bytes than the type's.
  init?(hostBytes: [UInt8]) {
    guard hostBytes.count == MemoryLayout<Self>.size else { return nil }
    self = hostBytes.withUnsafeBytes { $0.loadUnaligned(as: Self.self) }
  }

  /// Nil for another number of bytes than the type's.
  init?(networkBytes: [UInt8]) {
    guard let value = Self(hostBytes: networkBytes) else { return nil }
    self.init(bigEndian: value)
  }
}

extension IPAddress {
  /// Nil for another number of bytes than the family's.
  init?(_ family: IPFamily, networkBytes bytes: [UInt8]) {
    switch family {
    case .v4:
      guard let bits = UInt32(networkBytes: bytes) else { return nil }
      self = .v4(IPv4Address(bits: bits))
    case .v6:
      guard let bits = UInt128(networkBytes: bytes) else { return nil }
      self.init(.v6, bits: bits)
    }
  }

  /// The address that is this number.
  init(_ family: IPFamily, bits: UInt128) {
    switch family {
    case .v4: self = .v4(IPv4Address(bits: UInt32(truncatingIfNeeded: bits)))
    case .v6:
      self = .v6(
        IPv6Address(
          high: UInt64(truncatingIfNeeded: bits >> 64), low: UInt64(truncatingIfNeeded: bits)))
    }
  }
}
