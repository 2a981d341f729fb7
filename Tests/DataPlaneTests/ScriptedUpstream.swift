import Addressing
import LinuxIO
import Testing

/// Anything that takes longer than this is a failure.
private let patience = Timeout.seconds(10)

/// A test gave up waiting.
struct Silence: Error {}

/// A SOCKS server whose part the test plays, and the resolvers behind it.
final class ScriptedUpstream: Sendable {
  let address: SocketAddress
  private let listener: Descriptor

  init() throws {
    listener = try StreamSocket.listen(on: SocketAddress(.v4(.loopback), 0), .init())
    guard let address = listener.localAddress else { throw Errno.addressNotAvailable }
    self.address = address
  }

  /// Whether nobody waits to be accepted.
  var isIdle: Bool { !listener.wait(for: .readable, until: .now()) }

  func accept() throws -> ScriptedConnection {
    guard listener.wait(for: .readable, until: .now() + patience),
      case .connection(let socket, peer: _) = StreamSocket.accept(from: listener)
    else { throw Silence() }
    return ScriptedConnection(socket: socket)
  }

  /// Accepts a connection and answers its CONNECT, which is in `request` afterwards.
  func acceptAndConnect() throws -> ScriptedConnection {
    var connection = try accept()
    try connection.connect()
    return connection
  }
}

struct ScriptedConnection: ~Copyable {
  let socket: Descriptor
  /// Address type, address and port of the CONNECT.
  private(set) var destination: [UInt8] = []

  init(socket: consuming Descriptor) { self.socket = socket }

  /// Gives the socket to somebody else.
  consuming func release() -> Descriptor { socket }

  func write(_ bytes: [UInt8]) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      guard socket.wait(for: .writable, until: .now() + patience) else { throw Silence() }
      switch rest.withUnsafeBytes({ send(socket.rawValue, $0) }) {
      case .bytes(let count): rest = rest.dropFirst(count)
      case .wouldBlock: continue
      case .failed(let error): throw error
      }
    }
  }

  /// What is there, `most` bytes of it; empty at the end of the stream.
  func readSome(_ most: Int) throws -> [UInt8] {
    while true {
      guard socket.wait(for: .readable, until: .now() + patience) else { throw Silence() }
      var buffer = [UInt8](repeating: 0, count: most)
      switch buffer.withUnsafeMutableBytes({ receive(socket.rawValue, into: $0) }) {
      case .bytes(let count): return Array(buffer[..<count])
      case .wouldBlock: continue
      case .failed(let error): throw error
      }
    }
  }

  func read(_ count: Int) throws -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < count {
      let more = try readSome(count - bytes.count)
      if more.isEmpty { throw Silence() }
      bytes += more
    }
    return bytes
  }

  /// Reads the rest; returns at the end of the stream, or at a reset.
  func readToTheEnd() throws {
    do {
      while try !readSome(65_536).isEmpty {}
    } catch let error as Errno where error == .connectionReset {
    }
  }

  // MARK: SOCKS

  /// Takes the greeting and the request, and answers the latter with `code`.
  mutating func connect(code: UInt8 = 0) throws {
    let greeting = try read(3)
    #expect(greeting == [5, 1, 0])
    try write([5, 0])
    let header = try read(4)
    #expect(header[..<3] == [5, 1, 0])
    destination = [header[3]] + (try read(header[3] == 1 ? 6 : 18))
    try write([5, code, 0, 1, 0, 0, 0, 0, 0, 0])
  }

  // MARK: DNS

  func readQuery() throws -> [UInt8] {
    let length = try read(2)
    return try read(Int(length[0]) << 8 | Int(length[1]))
  }

  func writeFramed(_ message: [UInt8]) throws {
    try write([UInt8(message.count >> 8), UInt8(message.count & 0xFF)] + message)
  }
}
