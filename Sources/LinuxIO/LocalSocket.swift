package import Addressing
internal import CLinux

/// Sockets between processes of one host (`unix(7)`), never blocking. Those with an abstract name are
/// found in one network namespace, and the name goes away with its last socket; those with a path are
/// found by it.
package enum LocalSocket {
  /// A socket that listens under this name; EADDRINUSE if somebody does.
  package static func listen(on name: String) throws(Errno) -> Descriptor {
    let socket = Descriptor(owning: try checked(clx_local_socket()))
    _ = try checked(withAddress(ofName: name) { clx_bind(socket.rawValue, $0, $1) })
    _ = try checked(clx_listen(socket.rawValue, 8))
    return socket
  }

  /// A connection to who listens under this name; ECONNREFUSED if nobody does.
  package static func connect(to name: String) throws(Errno) -> Descriptor {
    let socket = Descriptor(owning: try checked(clx_local_socket()))
    _ = try checked(withAddress(ofName: name) { clx_connect(socket.rawValue, $0, $1) })
    return socket
  }

  /// Has a socket send to who receives at this path, or under this abstract name.
  static func connect(_ socket: borrowing Descriptor, to path: SocketPath) throws(Errno) {
    let descriptor = socket.rawValue
    _ = try checked(withAddress(at: path) { clx_connect(descriptor, $0, $1) })
  }

  static func connect(_ socket: borrowing Descriptor, toName name: String) throws(Errno) {
    let descriptor = socket.rawValue
    _ = try checked(withAddress(ofName: name) { clx_connect(descriptor, $0, $1) })
  }

  /// A socket that listens at this path, which nothing may have yet.
  /// - Parameter backlog: how many connections may wait to be accepted.
  package static func listen(
    at path: SocketPath, backlog: Int32 = 8
  ) throws(Errno) -> Descriptor {
    let socket = Descriptor(owning: try checked(clx_local_socket()))
    try bind(socket, at: path)
    _ = try checked(clx_listen(socket.rawValue, backlog))
    return socket
  }

  /// Gives a socket this path, which nothing may have yet; nobody can connect before it listens.
  static func bind(_ socket: borrowing Descriptor, at path: SocketPath) throws(Errno) {
    let descriptor = socket.rawValue
    _ = try checked(withAddress(at: path) { clx_bind(descriptor, $0, $1) })
  }

  /// A connection to who listens at this path; nil while too many wait there to be accepted, whose end
  /// no event tells. ENOENT if there is nothing, ECONNREFUSED if nobody listens, EACCES if this process
  /// may not write to the socket, or search the directories on the way.
  package static func connect(to path: SocketPath) throws(Errno) -> Descriptor? {
    let socket = Descriptor(owning: try checked(clx_local_socket()))
    let result = withAddress(at: path) { clx_connect(socket.rawValue, $0, $1) }
    if result == -EAGAIN { return nil }
    _ = try checked(result)
    return socket
  }

  /// The next connection of a listening socket, nil if there is none.
  package static func accept(_ listener: borrowing Descriptor) -> Descriptor? {
    let result = clx_accept(listener.rawValue, nil, nil)
    return result < 0 ? nil : Descriptor(owning: result)
  }

  /// Whether the other side was made by root, or by the user that this process acts for.
  package static func isTrusted(_ socket: borrowing Descriptor) -> Bool {
    guard let peer = peer(of: socket) else { return false }
    return peer.user == 0 || peer.user == geteuid()
  }

  /// The process that made the other side of a connection (`unix(7)`, SO_PEERCRED).
  package struct Peer: Hashable, Sendable {
    /// 0 for one that this process does not see.
    package let process: Int32
    package let user: UInt32
    package let group: UInt32
  }

  package static func peer(of socket: borrowing Descriptor) -> Peer? {
    var peer = clx_peer()
    guard clx_peer(socket.rawValue, &peer) == 0 else { return nil }
    return Peer(process: peer.process, user: peer.user, group: peer.group)
  }

  /// Ends a connection in both directions, and whatever waits for it.
  package static func shutdown(_ socket: Int32) { _ = clx_shutdown(socket, Int32(SHUT_RDWR)) }

  /// Sends one byte, which a new connection always has room for.
  package static func send(_ byte: UInt8, to socket: borrowing Descriptor) throws(Errno) {
    _ = try withUnsafeBytes(of: byte) { bytes throws(Errno) in
      try checked(clx_send(socket.rawValue, bytes.baseAddress, bytes.count))
    }
  }

  /// The next byte of the other side; nil if it closes first, or says nothing for `timeout`.
  package static func receive(from socket: borrowing Descriptor, timeout: Timeout) -> UInt8? {
    let deadline = Instant.now() + timeout
    while true {
      let left = Int32(clamping: deadline.milliseconds(since: .now()))
      let ready = clx_poll(socket.rawValue, Int16(POLLIN), left)
      if ready == -EINTR { continue }
      var byte: UInt8 = 0
      return ready > 0 && clx_recv(socket.rawValue, &byte, 1) == 1 ? byte : nil
    }
  }

  /// The name behind a zero byte, without one at its end.
  private static func withAddress(
    ofName name: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) -> Int32 {
    withAddress(name.utf8, at: 1, body)
  }

  /// The path with a zero byte at its end.
  private static func withAddress(
    at path: SocketPath, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) -> Int32 {
    withAddress(path.bytes, at: 0, body)
  }

  /// One zero byte, before the others or behind them, counts as a part of the address.
  private static func withAddress(
    _ bytes: some Collection<UInt8>, at offset: Int,
    _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let count = bytes.count + 1
    withUnsafeMutableBytes(of: &address.sun_path) { path in
      precondition(count <= path.count, "a name too long for a local socket")
      UnsafeMutableRawBufferPointer(rebasing: path[offset...]).copyBytes(from: bytes)
    }
    let length = MemoryLayout.offset(of: \sockaddr_un.sun_path).unsafelyUnwrapped + count
    return withUnsafePointer(to: address) { pointer in
      // SAFETY: the kernel reads `length` bytes, which `sockaddr_un` has.
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) }
    }
  }
}
