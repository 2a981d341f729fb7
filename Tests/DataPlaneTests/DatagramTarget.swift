import Addressing
import LinuxIO

@testable import DataPlane

/// A UDP socket on a loopback port of its own.
final class DatagramTarget {
  let socket: Descriptor
  let address: SocketAddress
  private var reader = DatagramReader()
  private var sender = DatagramSender()
  private var waiting: [Arrival] = []

  struct Arrival: Equatable {
    let payload: [UInt8]
    let source: SocketAddress
  }

  init(on host: IPAddress = .v4(.loopback)) throws {
    let socket = try DatagramSocket.bind(to: SocketAddress(host, 0), .init(receiveBytes: 4 << 20))
    guard let address = socket.localAddress else { throw Errno.addressNotAvailable }
    self.socket = socket
    self.address = address
  }

  /// Sends one datagram.
  func send(_ payload: [UInt8], to address: SocketAddress) throws {
    try DatagramSocket.send(payload, from: socket, to: address)
  }

  /// Sends all at once, in as few messages as it takes; returns how many the kernel took.
  func send(all payloads: [[UInt8]], to address: SocketAddress) -> Int {
    let bytes = payloads.flatMap(\.self)
    return bytes.withUnsafeBytes { memory in
      sender.begin(on: socket.rawValue, limit: SegmentLimit())
      var offset = 0
      for payload in payloads {
        let part = UnsafeRawBufferPointer(rebasing: memory[offset..<offset + payload.count])
        sender.append(part, behind: Span(), to: address)
        offset += payload.count
      }
      return sender.finish().sentCount
    }
  }

  /// The next datagram; nil if none comes in time.
  func receive(within timeout: Timeout = .seconds(10)) -> Arrival? {
    let deadline = Instant.now() + timeout
    while waiting.isEmpty {
      guard socket.wait(for: .readable, until: deadline) else { return nil }
      waiting = arrivals()
    }
    return waiting.removeFirst()
  }

  /// Datagrams whose sending ended before this call, without waiting.
  func receiveAll() -> [Arrival] {
    var all = waiting
    waiting = []
    while true {
      let more = arrivals()
      if more.isEmpty { return all }
      all += more
    }
  }

  /// What one call receives, as the kernel has joined it.
  func receipts() -> [(bytes: [UInt8], segment: Int, source: SocketAddress)] {
    guard case .slots(let count, bytes: _) = reader.receive(from: socket.rawValue, into: 0..<64)
    else {
      return []
    }
    return (0..<count).compactMap { slot in
      let received = reader.received(at: slot)
      return received.source.map { (Array(received.bytes), received.segment, $0) }
    }
  }

  private func arrivals() -> [Arrival] {
    receipts().flatMap { bytes, segment, source in
      let step = segment > 0 ? segment : max(bytes.count, 1)
      return stride(from: 0, to: max(bytes.count, 1), by: step).map {
        Arrival(payload: Array(bytes[$0..<min($0 + step, bytes.count)]), source: source)
      }
    }
  }
}
