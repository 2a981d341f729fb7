internal import CLibmnl

/// A message taken apart.
struct ParsedMessage<Header: BitwiseCopyable> {
  let header: Header
  /// Contents by type.
  let attributes: [UInt16: [UInt8]]

  func number(_ type: UInt16) -> UInt32? { attributes[type].flatMap(UInt32.init(hostBytes:)) }

  /// Without the zero that ends it.
  func text(_ type: UInt16) -> String? {
    attributes[type].map { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }

  /// Nil for another type of message than this, if one is asked for, or one that is too short.
  init?(_ bytes: [UInt8], type: Int? = nil) {
    let headerStart = MemoryLayout<nlmsghdr>.size
    let headerEnd = headerStart + MemoryLayout<Header>.size
    guard bytes.count >= headerEnd, type == nil || type == messageType(bytes) else { return nil }
    header = bytes.withUnsafeBytes {
      $0.loadUnaligned(fromByteOffset: headerStart, as: Header.self)
    }
    attributes = parseAttributes(bytes[min((headerEnd + 3) & ~3, bytes.count)...])
  }
}

/// Contents by type; what follows a broken attribute is left out.
func parseAttributes(_ bytes: some Collection<UInt8>) -> [UInt16: [UInt8]] {
  // NLA_TYPE_MASK (<linux/netlink.h>).
  let typeMask: UInt16 = 0x3FFF
  var attributes: [UInt16: [UInt8]] = [:]
  var rest = Array(bytes)[...]
  while rest.count >= MemoryLayout<nlattr>.size {
    let attribute = rest.withUnsafeBytes { $0.loadUnaligned(as: nlattr.self) }
    let length = Int(attribute.nla_len)
    guard length >= MemoryLayout<nlattr>.size, length <= rest.count else { break }
    attributes[attribute.nla_type & typeMask] = Array(
      rest.prefix(length).dropFirst(MemoryLayout<nlattr>.size))
    rest = rest.dropFirst((length + 3) & ~3)
  }
  return attributes
}

/// `nlmsg_type`, nil for what is shorter than a header.
func messageType(_ bytes: [UInt8]) -> Int? {
  guard bytes.count >= MemoryLayout<nlmsghdr>.size else { return nil }
  return bytes.withUnsafeBytes { Int($0.loadUnaligned(as: nlmsghdr.self).nlmsg_type) }
}
