internal import CLinux

/// Namespaces of the calling thread's own, and of those that it starts later (`namespaces(7)`); they go
/// with the last thread in them.
package enum Namespaces {
  /// A user namespace, in which this process has all capabilities, and its user and group the numbers
  /// that they have outside (`user_namespaces(7)`). No other user or group exists there. For a process
  /// that has one thread.
  package static func enterUser() throws(Errno) {
    let (user, group) = (geteuid(), getegid())
    _ = try checked(clx_unshare(Int32(CLX_CLONE_NEWUSER)))
    // Without privilege a group may be mapped only by who can no longer change groups.
    try write("deny", to: "/proc/self/setgroups")
    try write("\(user) \(user) 1", to: "/proc/self/uid_map")
    try write("\(group) \(group) 1", to: "/proc/self/gid_map")
  }

  /// A network namespace without anything but a loopback that is down. Needs CAP_SYS_ADMIN.
  package static func enterNetwork() throws(Errno) {
    _ = try checked(clx_unshare(Int32(CLX_CLONE_NEWNET)))
  }

  /// A mount namespace (`mount_namespaces(7)`): what is mounted in it is not seen outside, and what is
  /// mounted outside later is seen in it. Needs CAP_SYS_ADMIN, and a process that has one thread.
  package static func enterMounts() throws(Errno) {
    _ = try checked(clx_unshare(Int32(CLX_CLONE_NEWNS)))
    _ = try checked(clx_mount("none", "/", nil, UInt(MS_REC | MS_SLAVE), nil))
  }

  private static func write(_ text: String, to path: String) throws(Errno) {
    let file = Descriptor(owning: try checked(clx_open(path, O_WRONLY, 0)))
    let bytes = Array(text.utf8)
    _ = try checked(clx_write(file.rawValue, bytes, bytes.count))
  }
}

/// Mounts of a mount namespace of our own.
package enum Mounts {
  /// Covers a directory with an empty one.
  package static func cover(_ directory: String) throws(Errno) {
    _ = try checked(
      clx_mount("sluice", directory, "tmpfs", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC), "mode=755"))
  }

  /// Uncovers it again; what was mounted from there stays.
  package static func uncover(_ directory: String) throws(Errno) {
    _ = try checked(clx_detach_mount(directory))
  }

  /// Has one file appear in the place of another.
  package static func bind(_ file: String, over other: String) throws(Errno) {
    _ = try checked(clx_mount(file, other, nil, UInt(MS_BIND), nil))
  }

  /// Where a path leads once all symbolic links are followed (`realpath(3)`), nil if to nothing.
  package static func realPath(_ path: String) -> String? {
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(cString: resolved)
  }
}
