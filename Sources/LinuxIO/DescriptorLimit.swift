internal import CLinux

/// How many descriptors this process may have open (`RLIMIT_NOFILE`).
package enum DescriptorLimit {
  /// What it can be raised to, nil if the kernel does not say.
  package static var hard: Int? {
    var limit = rlimit()
    return clx_get_descriptor_limit(&limit) == 0 ? Int(clamping: limit.rlim_max) : nil
  }

  /// Raises the soft limit to the hard one and returns what holds now.
  package static func raise() -> Int {
    var limit = rlimit()
    guard clx_get_descriptor_limit(&limit) == 0 else { return 1024 }
    if limit.rlim_cur < limit.rlim_max {
      var raised = limit
      raised.rlim_cur = limit.rlim_max
      if clx_set_descriptor_limit(&raised) == 0 { limit = raised }
    }
    return Int(clamping: limit.rlim_cur)
  }
}
