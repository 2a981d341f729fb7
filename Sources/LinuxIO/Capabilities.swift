internal import CLinux

/// The capabilities of this process and of all that come from it (`capabilities(7)`).
package enum Capabilities {
  /// Gives up all of them, for good: neither what it executes nor a user namespace of its own gets
  /// back a power over what is there now.
  package static func dropAll() throws(Errno) {
    try forbidNewPrivileges()
    try keep(0)
  }

  /// Gives up those by which a process could leave its network namespace, or change the rules in it:
  /// they do not come back with a setuid program either.
  package static func dropNetworkControl() throws(Errno) {
    let dropped = [
      CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_BPF,
      CAP_PERFMON, CAP_CHECKPOINT_RESTORE,
    ]
    // Who may not bound what is to be had, has no new privileges at all.
    if clx_has_capability(CAP_SETPCAP) == 0 { try forbidNewPrivileges() }
    try keep(dropped.reduce(~0) { $0 & ~(1 << UInt64($1)) })
  }

  private static func keep(_ kept: UInt64) throws(Errno) {
    if clx_has_capability(CAP_SETPCAP) != 0 { _ = try checked(clx_bound_capabilities(kept)) }
    _ = try checked(clx_keep_capabilities(kept))
  }

  /// Files that are executed give no more privileges than there are (`PR_SET_NO_NEW_PRIVS`).
  private static func forbidNewPrivileges() throws(Errno) {
    _ = try checked(clx_set_process_option(PR_SET_NO_NEW_PRIVS, 1))
  }
}
