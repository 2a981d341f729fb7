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
