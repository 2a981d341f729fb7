internal import Addressing
internal import CLinux

// `struct sockaddr_in` and `struct sockaddr_in6` (<netinet/in.h>) to and from `SocketAddress`.

extension SocketAddress {
  /// Calls `body` with this address as the kernel wants it.
  func withKernelAddress<Result>(
    _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
  ) -> Result {
    var storage = sockaddr_storage()
    let length = store(in: &storage)
    return withUnsafePointer(to: &storage) { pointer in
      // SAFETY: sockaddr_storage is large and aligned enough for every sockaddr.
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
    }
  }

  private func store(in storage: inout sockaddr_storage) -> socklen_t {
    withUnsafeMutableBytes(of: &storage) { bytes in
      switch address {
      case .v4(let v4):
        var kernel = sockaddr_in()
        kernel.sin_family = sa_family_t(AF_INET)
        kernel.sin_port = port.bigEndian
        kernel.sin_addr.s_addr = v4.bits.bigEndian
        bytes.storeBytes(of: kernel, as: sockaddr_in.self)
        return socklen_t(MemoryLayout<sockaddr_in>.size)
      case .v6(let v6):
        var kernel = sockaddr_in6()
        kernel.sin6_family = sa_family_t(AF_INET6)
        kernel.sin6_port = port.bigEndian
        withUnsafeMutableBytes(of: &kernel.sin6_addr) { half in
          half.storeBytes(of: v6.high.bigEndian, as: UInt64.self)
          half.storeBytes(of: v6.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        bytes.storeBytes(of: kernel, as: sockaddr_in6.self)
        return socklen_t(MemoryLayout<sockaddr_in6>.size)
      }
    }
  }

  /// Nil for a family other than AF_INET and AF_INET6.
  init?(kernel storage: sockaddr_storage) {
    let address = withUnsafeBytes(of: storage) { SocketAddress(kernel: $0.baseAddress!) }
    guard let address else { return nil }
    self = address
  }

  /// Reads a socket address; the memory has room for one of its family. Nil for a family other than
  /// AF_INET and AF_INET6.
  init?(kernel memory: UnsafeRawPointer) {
    func integer<Value: FixedWidthInteger>(_ type: Value.Type, at offset: Int) -> Value {
      Value(bigEndian: memory.loadUnaligned(fromByteOffset: offset, as: type))
    }
    switch Int32(memory.loadUnaligned(as: sa_family_t.self)) {
    case AF_INET:
      let address = integer(UInt32.self, at: MemoryLayout<sockaddr_in>.offset(of: \.sin_addr)!)
      self.init(.v4(IPv4Address(bits: address)), integer(UInt16.self, at: 2))
    case AF_INET6:
      let start = MemoryLayout<sockaddr_in6>.offset(of: \.sin6_addr)!
      let (high, low) = (integer(UInt64.self, at: start), integer(UInt64.self, at: start + 8))
      self.init(.v6(IPv6Address(high: high, low: low)), integer(UInt16.self, at: 2))
    default:
      return nil
    }
  }

  var kernelFamily: Int32 { address.isIPv4 ? AF_INET : AF_INET6 }

  /// Runs a call that fills in a socket address (`accept4`, `getsockname`, …); the address is nil
  /// if the call failed or gave another family.
  static func filled(
    by call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
  ) -> (result: Int32, address: SocketAddress?) {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = withUnsafeMutablePointer(to: &storage) { pointer in
      // SAFETY: sockaddr_storage is large and aligned enough for every sockaddr, and `length` says
      // how much of it the kernel may write.
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, &length) }
    }
    return (result, result < 0 ? nil : SocketAddress(kernel: storage))
  }
}
