package import Addressing
internal import CLinux

/// One end of a pair of sockets by which two processes send each other messages and descriptors
/// (`unix(7)`, SOCK_SEQPACKET), or a way to somebody's socket that takes such messages (SOCK_DGRAM). Blocks.
package struct DescriptorLine: ~Copyable, Sendable {
  /// A message at most.
  package static let maximumBytes = 4096
  /// Descriptors that can come with one.
  package static let maximumDescriptors = Int(CLX_PASSED_DESCRIPTORS)

  private let socket: Descriptor

  /// Takes a socket of that kind.
  package init(_ socket: consuming Descriptor) { self.socket = socket }

  /// Both ends; the far one is put into `far`.
  package static func pair(_ far: inout DescriptorLine?) throws(Errno) -> DescriptorLine {
    var ends: [Int32] = [-1, -1]
    _ = try checked(clx_socket_pair(&ends))
    far = DescriptorLine(Descriptor(owning: ends[1]))
    return DescriptorLine(Descriptor(owning: ends[0]))
  }

  /// A way to who receives at this path, who cannot answer on it. ECONNREFUSED or ENOENT if nobody does.
  package static func to(_ path: SocketPath) throws(Errno) -> DescriptorLine {
    let socket = Descriptor(owning: try checked(clx_local_datagram_socket()))
    try LocalSocket.connect(socket, to: path)
    return DescriptorLine(socket)
  }

  /// The same by an abstract name.
  package static func to(name: String) throws(Errno) -> DescriptorLine {
    let socket = Descriptor(owning: try checked(clx_local_datagram_socket()))
    try LocalSocket.connect(socket, toName: name)
    return DescriptorLine(socket)
  }

  /// What came in one message.
  package struct Message: ~Copyable {
    package let bytes: [UInt8]
    package var descriptors: [Int32]

    /// Descriptors that nobody has taken are closed.
    deinit { for descriptor in descriptors { _ = Descriptor(owning: descriptor) } }

    /// The descriptors, for whoever is to own them.
    package mutating func take() -> [Int32] {
      defer { descriptors = [] }
      return descriptors
    }
  }

  /// Ends it here.
  package consuming func close() {}

  /// For registration with `Epoll`.
  package var rawValue: Int32 { socket.rawValue }

  /// Sends a message, which must not be empty, with copies of descriptors.
  package borrowing func send(_ bytes: [UInt8], _ descriptors: [Int32] = []) throws(Errno) {
    precondition(!bytes.isEmpty && bytes.count <= Self.maximumBytes)
    _ = try checked(
      Int(clx_send_passing(socket.rawValue, bytes, bytes.count, descriptors, descriptors.count)))
  }

  /// The next message; nil when the other end is gone.
  package borrowing func receive() throws(Errno) -> Message? {
    var bytes = [UInt8](repeating: 0, count: Self.maximumBytes)
    var descriptors = [Int32](repeating: -1, count: Self.maximumDescriptors)
    var count = 0
    var result: Int
    repeat {
      result = Int(
        clx_receive_passed(socket.rawValue, &bytes, bytes.count, &descriptors, &count))
    } while result == -Int(EINTR)
    if result == -Int(ECONNRESET) { return nil }
    let length = try checked(result)
    guard length > 0 else { return nil }
    return Message(bytes: Array(bytes[..<length]), descriptors: Array(descriptors[..<count]))
  }

  /// Waits at most so long for a message or the end of the line; false if there is neither.
  package borrowing func wait(_ timeout: Timeout) -> Bool {
    socket.wait(for: .readable, until: .now() + timeout)
  }
}
