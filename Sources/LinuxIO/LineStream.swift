internal import CLinux

/// One end of a Unix stream by which two processes send each other lines of text, with descriptors that
/// belong to a line (`unix(7)`, SCM_RIGHTS). Blocks, until a deadline. The other side is not trusted.
package struct LineStream: ~Copyable {
  /// Descriptors that can come with a line.
  package static let maximumDescriptors = 16

  package enum Failure: Error, Hashable, Sendable {
    case timedOut
    /// A line has more bytes than it may have.
    case lineTooLong
    case tooManyDescriptors
    /// The other side has gone.
    case ended
    case failed(Errno)
  }

  /// A line without its end.
  package struct Line: ~Copyable {
    package let bytes: [UInt8]
    package private(set) var descriptors: [Int32]

    /// Descriptors that nobody has taken are closed.
    deinit { close(descriptors) }

    /// The descriptors, for whoever is to own them.
    package mutating func take() -> [Int32] {
      defer { descriptors = [] }
      return descriptors
    }
  }

  private static let newline = UInt8(ascii: "\n")
  private static let chunkBytes = 4096

  private let socket: Descriptor
  private let maximumBytes: Int
  /// What has arrived of lines that nobody has received.
  private var waiting: [UInt8] = []
  private var waitingDescriptors: [Int32] = []
  /// So much of it has no end of a line.
  private var searched = 0

  /// - Parameters:
  ///   - socket: a connected one (`LocalSocket`).
  ///   - maximumBytes: of a line that is received.
  package init(_ socket: consuming Descriptor, maximumBytes: Int) {
    self.socket = socket
    self.maximumBytes = maximumBytes
  }

  deinit { close(waitingDescriptors) }

  /// For registration with `Epoll`.
  package var rawValue: Int32 { socket.rawValue }

  /// Who is at the other end.
  package var peer: LocalSocket.Peer? { LocalSocket.peer(of: socket) }

  /// The next line; nil when the other side has ended. After a failure the stream is of no use.
  package mutating func receive(until deadline: Instant) throws(Failure) -> Line? {
    while true {
      if let line = takeLine() { return line }
      guard waiting.count <= maximumBytes else { throw .lineTooLong }
      guard socket.wait(for: .readable, until: deadline) else { throw .timedOut }
      guard try fill() else {
        guard waiting.isEmpty else { throw .ended }
        return nil
      }
    }
  }

  /// Sends a line, which must have no end in it, with copies of descriptors.
  package borrowing func send(
    _ line: [UInt8], _ descriptors: [Int32] = [], until deadline: Instant
  ) throws(Failure) {
    precondition(descriptors.count <= Self.maximumDescriptors)
    let bytes = line + [Self.newline]
    var sent = 0
    while sent < bytes.count {
      // With the first byte that is taken.
      let passed = sent == 0 ? descriptors : []
      let descriptor = socket.rawValue
      let result = bytes[sent...].withUnsafeBytes {
        clx_send_passing(descriptor, $0.baseAddress, $0.count, passed, passed.count)
      }
      switch -result {
      case Int(EAGAIN):
        guard socket.wait(for: .writable, until: deadline) else { throw .timedOut }
      case Int(EINTR): continue
      case Int(EPIPE), Int(ECONNRESET): throw .ended
      default:
        do { sent += try checked(Int(result)) } catch { throw .failed(error) }
      }
    }
  }

  // MARK: Pieces

  private mutating func takeLine() -> Line? {
    guard let end = waiting[searched...].firstIndex(of: Self.newline) else {
      searched = waiting.count
      return nil
    }
    // Of a longer one no more than that is ever looked at.
    guard end <= maximumBytes else { return nil }
    let line = Line(bytes: Array(waiting[..<end]), descriptors: waitingDescriptors)
    waiting.removeFirst(end + 1)
    waitingDescriptors = []
    searched = 0
    return line
  }

  /// Takes what has arrived; false at the end.
  private mutating func fill() throws(Failure) -> Bool {
    var bytes = [UInt8](repeating: 0, count: Self.chunkBytes)
    var descriptors = [Int32](repeating: -1, count: Int(CLX_PASSED_DESCRIPTORS))
    var count = 0
    let result = clx_receive_passed(
      socket.rawValue, &bytes, bytes.count, &descriptors, &count)
    switch -result {
    case Int(EAGAIN), Int(EINTR): return true
    case Int(ECONNRESET): return false
    default: break
    }
    waitingDescriptors += descriptors[..<count]
    guard waitingDescriptors.count <= Self.maximumDescriptors else { throw .tooManyDescriptors }
    do { waiting += bytes[..<(try checked(Int(result)))] } catch { throw .failed(error) }
    return result > 0
  }
}

private func close(_ descriptors: [Int32]) {
  for descriptor in descriptors { _ = Descriptor(owning: descriptor) }
}
