package import Addressing
internal import CLinux

/// Looking up host names with the system's resolver (`getaddrinfo(3)`).
package enum NameResolution {
  /// Addresses of `name` in the order in which to try them (RFC 6724), without doubles; empty if
  /// there is none or the look-up failed. Blocks, for seconds if a server does not answer.
  package static func addresses(of name: HostName) -> [IPAddress] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(name.text, nil, &hints, &list) == 0 else { return [] }
    defer { freeaddrinfo(list) }
    var addresses: [IPAddress] = []
    var entry = list
    while let current = entry {
      var storage = sockaddr_storage()
      // SAFETY: `ai_addr` points to `ai_addrlen` bytes, at most the size of sockaddr_storage.
      withUnsafeMutableBytes(of: &storage) { bytes in
        bytes.copyMemory(
          from: UnsafeRawBufferPointer(
            start: current.pointee.ai_addr, count: Int(current.pointee.ai_addrlen)))
      }
      if let address = SocketAddress(kernel: storage)?.address, !addresses.contains(address) {
        addresses.append(address)
      }
      entry = current.pointee.ai_next
    }
    return addresses
  }
}
