internal import CLinux

/// The hierarchy of control groups of version 2 (`cgroups(7)`).
package struct ControlGroups: Sendable {
  /// Where it is mounted: `/sys/fs/cgroup`, or below that beside version 1.
  package let mountPoint: String

  /// Nil if it is not mounted.
  package init?() {
    for line in (readFile("/proc/self/mounts") ?? "").split(separator: "\n") {
      // device, mount point, type, options
      let fields = line.split(separator: " ")
      if fields.count > 2, fields[2] == "cgroup2" {
        mountPoint = String(fields[1])
        return
      }
    }
    return nil
  }

  /// The inode number of a group's directory, which tells it from all others; nil if there is no such
  /// group.
  /// - Parameter path: below the mount point.
  package func identifier(of path: String) -> UInt64? {
    var inode: UInt64 = 0
    return clx_directory_inode("\(mountPoint)/\(path)", &inode) == 0 ? inode : nil
  }

  /// The path as nft takes it: below `/sys/fs/cgroup`, wherever the hierarchy is mounted there.
  package func pathForRules(_ path: String) -> String {
    let usual = "/sys/fs/cgroup/"
    return mountPoint.hasPrefix(usual) ? "\(mountPoint.dropFirst(usual.count))/\(path)" : path
  }

  /// The path of the first group of this name at any depth, as that of a systemd unit.
  package func path(ofName name: String) -> String? {
    var waiting = [""]
    var visited = 0
    let maximumVisits = 100_000
    while !waiting.isEmpty, visited < maximumVisits {
      let parents = waiting
      waiting = []
      for parent in parents {
        visited += 1
        let children = directoryEntries("\(mountPoint)/\(parent)")
          .map { parent.isEmpty ? $0 : "\(parent)/\($0)" }
          .filter { identifier(of: $0) != nil }
        if let found = children.first(where: { $0 == name || $0.hasSuffix("/\(name)") }) {
          return found
        }
        waiting += children
      }
    }
    return nil
  }
}
