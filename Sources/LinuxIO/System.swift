internal import CLinux

/// What the process may ask of the system it runs on.
package enum System {
  /// Numbers of the processors that the calling thread may run on (`sched_getaffinity(2)`); at least
  /// one.
  package static var processors: [Int] {
    var mask = [UInt8](repeating: 0, count: affinityBytes)
    let count = clx_get_affinity(&mask)
    let processors = (0..<max(count, 0) * 8).filter { mask[$0 / 8] >> ($0 % 8) & 1 == 1 }
    return processors.isEmpty ? [0] : processors
  }

  /// Keeps the calling thread on one processor (`sched_setaffinity(2)`).
  static func pin(to processor: Int) {
    var mask = [UInt8](repeating: 0, count: affinityBytes)
    mask[processor / 8] = 1 << (processor % 8)
    // A processor that went away meanwhile only means that the thread stays where it is.
    _ = clx_set_affinity(mask)
  }

  private static let affinityBytes = 1024

  package static var processID: Int32 { getpid() }

  /// Whether CAP_NET_ADMIN is in the effective set (`capabilities(7)`).
  package static var hasNetworkAdministration: Bool { clx_has_capability(CAP_NET_ADMIN) != 0 }

  /// Whether CAP_NET_RAW is in the effective set.
  package static var hasRawSockets: Bool { clx_has_capability(CAP_NET_RAW) != 0 }

  /// Whether CAP_SYS_ADMIN is in the effective set.
  package static var hasSystemAdministration: Bool { clx_has_capability(CAP_SYS_ADMIN) != 0 }

  /// Whether network and mount namespaces can be made, and furnished, without a user namespace: that takes
  /// CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE.
  package static var mayMakeNamespaces: Bool {
    hasSystemAdministration && hasNetworkAdministration && hasRawSockets
      && clx_has_capability(CAP_NET_BIND_SERVICE) != 0
  }

  /// Whether sockets of IPv6 can be made at all.
  package static var hasIPv6: Bool {
    let result = clx_datagram_socket(AF_INET6)
    guard result >= 0 else { return false }
    _ = Descriptor(owning: result)
    return true
  }

  /// Makes the program's own code resident anew, as far as it runs from here on: what served the start alone
  /// is more than what serves the flows.
  package static func giveBackStartUpCode() { clx_give_back_code() }

  /// Has all threads that are started later allocate from one heap, so that what the start has given back, and
  /// what one of them has, serves the others; for threads that seldom allocate.
  package static func shareHeap() { clx_share_heap() }

  /// Ignores SIGPIPE, which `splice` raises where `send` can be told not to; a data plane needs it.
  package static func ignoreBrokenPipes() { clx_ignore_broken_pipe() }

  /// Whether this network namespace has an interface of this name (`if_nametoindex(3)`).
  package static func hasInterface(_ name: String) -> Bool { if_nametoindex(name) != 0 }

  /// `count` bytes from the kernel's generator (`getrandom(2)`), `count` at most 256.
  package static func randomBytes(_ count: Int) -> [UInt8] {
    precondition(count <= 256)
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      filled = clx_random(buffer.baseAddress, count)
      precondition(filled == count, "getrandom failed")
    }
  }
}
