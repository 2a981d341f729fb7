/// Where the file system has a Unix socket: an absolute path that the kernel's address has room for
/// (`sun_path`, `unix(7)`).
package struct SocketPath: Hashable, Sendable {
  /// The zero byte at the end has room in the address, too.
  package static let maximumBytes = 107

  package let bytes: [UInt8]

  /// Nil for a path that does not begin with a slash, is too long, or contains a zero byte.
  package init?(_ bytes: [UInt8]) {
    guard bytes.first == UInt8(ascii: "/"), bytes.count <= Self.maximumBytes, !bytes.contains(0)
    else { return nil }
    self.bytes = bytes
  }
}

extension SocketPath: CustomStringConvertible {
  package var description: String { String(decoding: bytes, as: UTF8.self) }
}
