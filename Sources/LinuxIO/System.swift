internal import CLinux

/// What the process may ask of the system it runs on.
package enum System {
  /// Processors that this process may run on; at least 1.
  package static var processorCount: Int { Int(clx_processor_count()) }

  /// Whether CAP_NET_ADMIN is in the effective set (`capabilities(7)`).
  package static var hasNetworkAdministration: Bool { clx_has_capability(CAP_NET_ADMIN) != 0 }

  /// `count` bytes from the kernel's generator (`getrandom(2)`), `count` at most 256.
  package static func randomBytes(_ count: Int) -> [UInt8] {
    precondition(count <= 256)
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      filled = clx_random(buffer.baseAddress, count)
      precondition(filled == count, "getrandom failed")
    }
  }
}
