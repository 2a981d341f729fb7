internal import Addressing
internal import LinuxIO
internal import SOCKS

/// Datagrams on their way to a SOCKS relay, each behind its header. Those in a row that have the same
/// destination and size leave as one message, which the kernel or the network card cuts (UDP_SEGMENT):
/// that is ten times cheaper than sending each.
struct DatagramRuns: ~Copyable {
  /// Datagrams per message at most (UDP_MAX_SEGMENTS, <linux/udp.h>, before Linux 6.9).
  private static let maximumSegments = 64
  /// Each datagram is gathered from its header and its payload.
  private static let partsPerDatagram = 2

  /// What became of everything that was flushed.
  struct Outcome {
    /// Datagrams that the kernel did not take.
    var unsent = 0
    /// Nobody receives at the other end: an ICMP message has said so.
    var isRefused = false
  }

  private var writer = DatagramWriter()
  /// False once the kernel has turned out not to segment on this way.
  private var isSegmenting = true
  // The last message.
  private var destination = SocketAddress(.v4(.any), 0)
  private var segmentBytes = 0
  private var segments = 0
  /// Its last datagram is shorter than the others, so that it is complete.
  private var isComplete = true

  var isEmpty: Bool { writer.count == 0 }

  /// Whether one more datagram has to wait for `flush`.
  var isFull: Bool { !writer.hasRoom(parts: Self.partsPerDatagram) }

  /// Adds a datagram, whose payload must stay where it is until it is sent.
  /// - Parameter segmentLimit: the largest datagram, header included, that can be part of a message
  ///   with others: one that needs no fragments.
  mutating func append(
    _ payload: UnsafeRawBufferPointer, to destination: SocketAddress, segmentLimit: Int
  ) {
    let bytes = DatagramHeader.bytes(for: destination) + payload.count
    if !isComplete, isSegmenting, destination == self.destination, bytes <= segmentBytes,
      segmentBytes <= segmentLimit, segments < Self.maximumSegments,
      (segments + 1) * segmentBytes <= UDPHeader.maximumPayloadBytes
    {
      segments += 1
      isComplete = bytes < segmentBytes
    } else {
      completeMessage()
      writer.begin()
      encode(destination)
      self.destination = destination
      segmentBytes = bytes
      segments = 1
      isComplete = false
    }
    let header = writer.header[..<DatagramHeader.bytes(for: destination)]
    writer.append(UnsafeRawBufferPointer(UnsafeMutableBufferPointer(rebasing: header)))
    writer.append(payload)
  }

  private mutating func encode(_ destination: SocketAddress) {
    // SAFETY: the header's room holds every header with an address.
    var output = OutputSpan(buffer: writer.header, initializedCount: 0)
    DatagramHeader.encode(destination, into: &output)
    _ = output.finalize(for: writer.header)
  }

  private mutating func completeMessage() {
    if segments > 1 { writer.cutLastMessage(every: segmentBytes) }
    segments = 0
    isComplete = true
  }

  /// Sends everything by a socket that is connected to the relay.
  mutating func flush(by socket: Int32) -> Outcome {
    completeMessage()
    var outcome = Outcome()
    var index = 0
    var isRetrying = false
    while index < writer.count {
      switch writer.send(by: socket, from: index) {
      case .sent(let next):
        index = next
        isRetrying = false
      case .failed(.connectionRefused) where !isRetrying:
        // Of a datagram before: this one has not been tried.
        outcome.isRefused = true
        isRetrying = true
      case .failed(let error):
        outcome.unsent += sendApart(index, after: error, by: socket)
        index += 1
        isRetrying = false
      }
    }
    writer.removeAll()
    return outcome
  }

  /// Sends the datagrams of a message one by one if segmentation was the trouble; returns how many were
  /// not taken.
  private mutating func sendApart(_ index: Int, after error: Errno, by socket: Int32) -> Int {
    let datagrams = writer.partCount(of: index) / Self.partsPerDatagram
    guard datagrams > 1 else { return 1 }
    switch error {
    case .inputOutput, .invalidArgument, .messageTooLong: break
    default: return datagrams
    }
    // Without checksum offload on the way out it never works.
    if error == .inputOutput { isSegmenting = false }
    var unsent = 0
    for datagram in 0..<datagrams {
      let first = datagram * Self.partsPerDatagram
      if case .failed = writer.send(
        parts: first..<first + Self.partsPerDatagram, of: index, by: socket)
      {
        unsent += 1
      }
    }
    return unsent
  }
}
