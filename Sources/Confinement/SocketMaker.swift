package import LinuxIO
internal import Synchronization

/// A process that stays in the namespace and makes unconnected TCP sockets there, one for each word of a
/// line, until the other end is gone.
struct SocketMaker: ~Copyable {
  static let wantsV4: UInt8 = 4
  static let wantsV6: UInt8 = 6
  static let made: UInt8 = 1
  static let notMade: UInt8 = 0

  private let line: DescriptorLine

  init(_ line: consuming DescriptorLine) { self.line = line }

  /// Keeps nothing else of what the process had.
  func run() -> Never {
    ChildProcess.end(serve())
  }

  private func serve() -> Int32 {
    do throws(Errno) {
      try ThisProcess.hide()
      try Capabilities.dropAll()
      try ThisProcess.closeAll(except: line.rawValue)
      while let message = try line.receive() {
        let isIPv4 = message.bytes.first == Self.wantsV4
        guard let socket = try? StreamSocket.open(isIPv4: isIPv4) else {
          try line.send([Self.notMade])
          continue
        }
        try line.send([Self.made], [socket.rawValue])
      }
      return 0
    } catch {
      return 1
    }
  }
}

/// The other end of its line: sockets of the namespace, for whoever is outside.
package final class SocketSupply: Sendable {
  private let line: Mutex<DescriptorLine>

  init(_ line: consuming DescriptorLine) { self.line = Mutex(line) }

  /// How long a socket may take; the maker has nothing else to do.
  private static let patience = Timeout.seconds(1)

  /// An unconnected TCP socket, nil if none is to be had. Blocks for as long as another process takes
  /// to be scheduled.
  package func socket(isIPv4: Bool) -> Descriptor? {
    let socket = line.withLock { line in
      try? Self.ask(line, isIPv4 ? SocketMaker.wantsV4 : SocketMaker.wantsV6)
    }
    return socket.flatMap { $0 }.map { Descriptor(owning: $0) }
  }

  private static func ask(
    _ line: borrowing DescriptorLine, _ question: UInt8
  ) throws(Errno) -> Int32? {
    try line.send([question])
    guard line.wait(patience), var message = try line.receive() else { return nil }
    return message.take().first
  }
}
