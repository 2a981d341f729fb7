package import Addressing
internal import CLinux

/// A Unix socket that listens under a name in the file system (`unix(7)`).
package struct SocketFile: ~Copyable, Sendable {
  /// Connections that wait to be accepted.
  private static let backlog: Int32 = 128

  package let path: SocketPath
  private let inode: UInt64
  private let socket: Descriptor

  /// Makes the socket and, if it is missing, the directory that it is in. What a process left there that
  /// has ended is replaced.
  ///
  /// Throws EADDRINUSE if somebody listens there, EEXIST if something else is there.
  /// - Parameter group: may connect, too, if this process may say so; else root and the owner alone.
  package init(_ path: SocketPath, group: UInt32) throws(Errno) {
    let name = path.description
    if let slash = name.lastIndex(of: "/"), slash > name.startIndex {
      try Self.makeDirectory(String(name[..<slash]))
    }
    let socket = Descriptor(owning: try checked(clx_local_socket()))
    do {
      try LocalSocket.bind(socket, at: path)
    } catch .addressInUse {
      try Self.removeAbandoned(path)
      try LocalSocket.bind(socket, at: path)
    }
    // Nobody can connect before it listens.
    let isShared = clx_set_group(name, group) == 0
    _ = try checked(clx_set_mode(name, isShared ? 0o660 : 0o600))
    _ = try checked(clx_listen(socket.rawValue, Self.backlog))
    inode = try Self.inode(of: path)
    self.path = path
    self.socket = socket
  }

  /// Waits for a connection, or `shutdown`.
  package borrowing func wait() { _ = socket.wait(for: .readable, until: .distantFuture) }

  /// Takes no more connections: `wait` ends, on every thread.
  package borrowing func shutdown() { LocalSocket.shutdown(socket.rawValue) }

  /// The next connection; nil if there is none.
  package borrowing func accept() throws(Errno) -> Descriptor? {
    let result = clx_accept(socket.rawValue, nil, nil)
    switch -result {
    case EAGAIN, EINTR, ECONNABORTED: return nil
    default: return Descriptor(owning: try checked(result))
    }
  }

  /// Takes the name away, if it still leads to this socket.
  package borrowing func remove() {
    if (try? Self.inode(of: path)) == inode { _ = clx_unlink(path.description) }
  }

  private static func makeDirectory(_ path: String) throws(Errno) {
    let mode: mode_t = 0o755
    let result = clx_make_directory(path, mode)
    if result == -EEXIST { return }
    _ = try checked(result)
    // Whatever the umask is.
    _ = try checked(clx_set_mode(path, mode))
  }

  private static func inode(of path: SocketPath) throws(Errno) -> UInt64 {
    var inode: UInt64 = 0
    _ = try checked(clx_socket_inode(path.description, &inode))
    return inode
  }

  private static func removeAbandoned(_ path: SocketPath) throws(Errno) {
    do {
      _ = try inode(of: path)
    } catch .notSocket {
      throw .fileExists
    }
    do {
      _ = try LocalSocket.connect(to: path)
    } catch .connectionRefused {
      _ = try checked(clx_unlink(path.description))
      return
    }
    throw .addressInUse
  }
}
