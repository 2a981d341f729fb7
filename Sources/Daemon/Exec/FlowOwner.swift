internal import Glibc
internal import LinuxIO
internal import SOCKS

extension FlowIdentity.Owner {
  /// Whoever has started this process.
  static var ofThisProcess: FlowIdentity.Owner {
    FlowIdentity.Owner(
      user: geteuid(), group: getegid(),
      controlGroup: ControlGroups.absolutePath(ofProcess: getpid()))
  }

  /// Whoever is at the other side of a local connection.
  init(_ peer: LocalSocket.Peer) {
    self.init(
      user: peer.user, group: peer.group,
      controlGroup: ControlGroups.absolutePath(ofProcess: peer.process))
  }
}
