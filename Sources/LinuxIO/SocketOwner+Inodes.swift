internal import CLinux

extension SocketOwner {
  /// The processes that have sockets of these numbers (`SocketOwners.Owner.inode`); without those that have
  /// none, or may not be looked at. This process is not looked at. Of several that share a socket it is one.
  package static func holders(ofSockets inodes: Set<UInt32>) -> [UInt32: SocketOwner] {
    var holders: [UInt32: SocketOwner] = [:]
    var missing = inodes
    for process in directoryEntries("/proc") {
      guard !missing.isEmpty else { break }
      guard let processID = Int32(process), processID != getpid() else { continue }
      for descriptor in directoryEntries("/proc/\(process)/fd") {
        guard let link = readLink("/proc/\(process)/fd/\(descriptor)"), let inode = inode(of: link),
          missing.remove(inode) != nil
        else { continue }
        holders[inode] = SocketOwner(
          processID: processID, executable: readLink("/proc/\(process)/exe") ?? "unknown")
      }
    }
    return holders
  }

  /// Of `socket:[123]`.
  private static func inode(of link: String) -> UInt32? {
    guard link.hasPrefix("socket:["), link.hasSuffix("]") else { return nil }
    return UInt32(link.dropFirst("socket:[".count).dropLast())
  }
}
