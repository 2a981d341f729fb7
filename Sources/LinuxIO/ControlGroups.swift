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
    var found: String?
    visit { path, _ in
      guard path == name || path.hasSuffix("/\(name)") else { return true }
      found = path
      return false
    }
    return found
  }

  /// The paths of the groups with these inode numbers, as far as they exist.
  package func paths(of identifiers: Set<UInt64>) -> [UInt64: String] {
    var paths: [UInt64: String] = [:]
    visit { path, identifier in
      if identifiers.contains(identifier) { paths[identifier] = path }
      return paths.count < identifiers.count
    }
    return paths
  }

  /// The path of every group, and of the hierarchy's own, each `/` first, by inode number; so many at
  /// most, those of the lowest depth first.
  package func absolutePaths(maximum: Int) -> [UInt64: String] {
    var paths: [UInt64: String] = [:]
    if let root = identifier(of: "") { paths[root] = "/" }
    visit { path, identifier in
      paths[identifier] = "/\(path)"
      return paths.count < maximum
    }
    return paths
  }

  /// The path of the group that a process is in, `/` first; nil if that is not known.
  package static func absolutePath(ofProcess processID: Int32) -> String? {
    let prefix = "0::"  // The hierarchy of version 2, in `/proc/PID/cgroup`.
    return readFile("/proc/\(processID)/cgroup")?.split(separator: "\n")
      .first { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }
  }

  /// The processes that are in a group.
  package func processes(in absolutePath: String) -> [Int32] {
    (readFile("\(mountPoint)\(absolutePath)/cgroup.procs") ?? "").split(separator: "\n")
      .compactMap { Int32($0) }
  }

  /// Shows each group and its inode number, those of the lowest depth first, as long as `handle` wants
  /// more.
  private func visit(_ handle: (String, UInt64) -> Bool) {
    var waiting = [""]
    var visited = 0
    let maximumVisits = 100_000
    while !waiting.isEmpty, visited < maximumVisits {
      let parents = waiting
      waiting = []
      for parent in parents {
        visited += 1
        for child in directoryEntries("\(mountPoint)/\(parent)") {
          let path = parent.isEmpty ? child : "\(parent)/\(child)"
          guard let identifier = identifier(of: path) else { continue }
          if !handle(path, identifier) { return }
          waiting.append(path)
        }
      }
    }
  }
}
