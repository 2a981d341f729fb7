package import Addressing
internal import CLinux

/// Finds the program that has a socket of this network namespace, by one question to the kernel
/// (`sock_diag(7)`), which answers while it is asked.
package final class SocketOwners {
  /// What the kernel knows of a socket's owner.
  package struct Owner: Hashable, Sendable {
    /// Who has made the socket.
    package let user: UInt32
    package let inode: UInt32
    /// Inode number of its control group of version 2; nil before Linux 5.8.
    package let controlGroup: UInt64?
  }

  /// Groups whose names are kept.
  private static let maximumNames = 4096
  /// Descriptors of processes that are looked at for the group of one.
  private static let maximumDescriptors = 2048
  private static let answerBytes = 1024

  private let diagnosis: SocketDiagnosis
  private let buffer = UnsafeMutableRawBufferPointer.allocate(
    byteCount: answerBytes, alignment: 8)
  private let controlGroups = ControlGroups()
  private var names: [UInt64: String] = [:]

  package init() throws(Errno) {
    diagnosis = try SocketDiagnosis()
  }

  deinit { buffer.deallocate() }

  /// Who has the socket at `local` that is connected to `remote`, or for datagrams gets what comes from
  /// there; nil if it is of another host, or its owner has closed it.
  package func owner(
    of transport: SocketDiagnosis.Transport, at local: SocketAddress, to remote: SocketAddress
  ) -> Owner? {
    diagnosis.ask(.find, transport, at: local, to: remote, answer: buffer).flatMap(Self.owner)
  }

  /// Reads an answer: header, `inet_diag_msg`, attributes.
  private static func owner(in answer: UnsafeRawBufferPointer) -> Owner? {
    let fixedBytes = MemoryLayout<nlmsghdr>.size + MemoryLayout<inet_diag_msg>.size
    guard answer.count >= fixedBytes,
      answer.loadUnaligned(as: nlmsghdr.self).nlmsg_type == UInt16(SOCK_DIAG_BY_FAMILY)
    else { return nil }
    let message = answer.loadUnaligned(
      fromByteOffset: MemoryLayout<nlmsghdr>.size, as: inet_diag_msg.self)
    // A socket that nobody has any more is shown as one of root's.
    guard message.idiag_inode != 0 else { return nil }
    return Owner(
      user: message.idiag_uid, inode: message.idiag_inode,
      controlGroup: controlGroup(
        in: UnsafeRawBufferPointer(rebasing: answer[fixedBytes...])))
  }

  private static func controlGroup(in attributes: UnsafeRawBufferPointer) -> UInt64? {
    var rest = attributes
    let headerBytes = MemoryLayout<nlattr>.size
    while rest.count >= headerBytes {
      let attribute = rest.loadUnaligned(as: nlattr.self)
      let length = Int(attribute.nla_len)
      guard length >= headerBytes, length <= rest.count else { return nil }
      if attribute.nla_type == CLX_INET_DIAG_CGROUP_ID, length >= headerBytes + 8 {
        return rest.loadUnaligned(fromByteOffset: headerBytes, as: UInt64.self)
      }
      rest = UnsafeRawBufferPointer(rebasing: rest[min((length + 3) & ~3, rest.count)...])
    }
    return nil
  }

  // MARK: What the kernel does not tell

  /// The path of a control group, `/` first; its number if there is no such path, or too many groups.
  /// A group that has not been met makes it look through all.
  package func path(ofControlGroup identifier: UInt64) -> String {
    if let name = names[identifier] { return name }
    names = controlGroups?.absolutePaths(maximum: Self.maximumNames) ?? [:]
    if let name = names[identifier] { return name }
    let number = "\(identifier)"
    names[identifier] = number
    return number
  }

  /// The group that the owner acts for, as rules know it (`meta skgid`): that of the first process that
  /// has the socket, among those of its control group where that is known. Nil if none is found, may be
  /// looked at, or there is too much to look at.
  package func group(of owner: Owner) -> UInt32? {
    let link = "socket:[\(owner.inode)]"
    var looksLeft = Self.maximumDescriptors
    for process in candidates(owner) {
      for descriptor in directoryEntries("/proc/\(process)/fd") {
        guard looksLeft > 0 else { return nil }
        looksLeft -= 1
        if readLink("/proc/\(process)/fd/\(descriptor)") == link {
          return Self.group(ofProcess: process)
        }
      }
    }
    return nil
  }

  private func candidates(_ owner: Owner) -> [Int32] {
    if let controlGroups, let group = owner.controlGroup {
      let path = path(ofControlGroup: group)
      if path.hasPrefix("/") { return controlGroups.processes(in: path) }
    }
    return directoryEntries("/proc").compactMap { Int32($0) }
  }

  /// The last of real, effective, saved and file system group.
  private static func group(ofProcess process: Int32) -> UInt32? {
    readFile("/proc/\(process)/status")?.split(separator: "\n")
      .first { $0.hasPrefix("Gid:") }?.split(separator: "\t").last.flatMap { UInt32($0) }
  }
}
