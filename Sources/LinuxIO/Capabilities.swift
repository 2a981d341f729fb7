internal import CLinux

/// The capabilities of this process and of all that come from it (`capabilities(7)`).
package enum Capabilities {
  /// Gives up all of them, for good: neither what it executes nor a user namespace of its own gets
  /// back a power over what is there now.
  package static func dropAll() throws(Errno) {
    try forbidNewPrivileges()
    _ = try checked(clx_keep_capabilities(0))
  }

  /// Gives up those by which a process could leave its network namespace, or change the rules in it:
  /// they do not come back with a setuid program either.
  package static func dropNetworkControl() throws(Errno) {
    let dropped = [
      CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_BPF,
      CAP_PERFMON, CAP_CHECKPOINT_RESTORE,
    ]
    _ = try checked(clx_keep_capabilities(dropped.reduce(~0) { $0 & ~(1 << UInt64($1)) }))
  }

  /// Files that are executed give no more privileges than there are (`PR_SET_NO_NEW_PRIVS`).
  private static func forbidNewPrivileges() throws(Errno) {
    _ = try checked(clx_set_process_option(PR_SET_NO_NEW_PRIVS, 1))
  }
}
