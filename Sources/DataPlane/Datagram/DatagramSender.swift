internal import Addressing
internal import LinuxIO

/// How large the datagrams of a segmented message may be on one socket; it is learnt from what the
/// kernel refuses, and kept beside the socket.
struct SegmentLimit: Equatable {
  private(set) var bytes = Int(UInt16.max)

  mutating func lower(below size: Int) { bytes = min(bytes, size - 1) }
}

/// Sends datagrams with as few system calls and as little work of the kernel as it can: consecutive
/// ones that go to the same place behind the same header and are of one size, the last of them perhaps
/// shorter, are a run, which leaves as one message that the kernel cuts (`UDP_SEGMENT`, udp(7)).
///
///     begin(on: socket) ──▶ append … append ──▶ finish
///
/// Nothing waits: what the socket does not take is dropped, and the order is kept. Payloads are not
/// copied, so they must stay where they are until `finish`, as must what precedes all headers.
struct DatagramSender: ~Copyable {
  /// What became of the datagrams between `begin` and `finish`.
  struct Outcome: Equatable {
    var sentCount = 0
    /// Bytes of the payloads of those that were sent, headers not counted.
    var sentBytes = 0
    /// The kernel did not take them: buffers are full, there is no way, a filter forbids it.
    var unsentCount = 0
    /// Longer than a datagram can be.
    var tooLargeCount = 0
    var limit = SegmentLimit()
  }

  static let maximumHeaderBytes = DatagramWriter.maximumHeaderBytes
  /// Datagrams that are collected at most before they are sent.
  static let maximumDatagrams = 1024
  /// Datagrams of one run at most: `UDP_MAX_SEGMENTS` (<linux/udp.h>) of kernels before 6.9.
  static let maximumRunDatagrams = 64
  /// What a run has at most, headers included: the payload of the largest IPv4 packet.
  static let maximumRunBytes = 65_507

  private struct Run {
    /// Nil for the peer of a connected socket.
    var address: SocketAddress?
    var header: [32 of UInt8]
    var headerCount: Int
    /// Bytes of each payload; only the last may have fewer, and nothing follows it then.
    var size: Int
    var datagrams: Range<Int>
    var isComplete: Bool
  }

  private var writer = DatagramWriter()
  /// Payloads in the order of sending; the runs divide them among themselves.
  private let payloads: UnsafeMutablePointer<UnsafeRawBufferPointer>
  private var runs: [Run] = []
  /// How many datagrams each of the writer's messages has.
  private var messages: [Int] = []
  /// The first run, and the first datagram, that has not left.
  private var nextRun = 0
  private var next = 0
  private var count = 0

  private var socket: Int32 = -1
  /// What precedes the header of each datagram.
  private var prefix = UnsafeRawBufferPointer(start: nil, count: 0)
  private var outcome = Outcome()

  init() {
    payloads = .allocate(capacity: Self.maximumDatagrams)
    runs.reserveCapacity(DatagramWriter.capacity)
    messages.reserveCapacity(DatagramWriter.capacity)
  }

  deinit { payloads.deallocate() }

  /// Begins to collect for `socket`, of which `limit` is known.
  /// - Parameter prefix: what precedes the header of each datagram; with any, each has a header.
  mutating func begin(
    on socket: Int32, limit: SegmentLimit,
    prefix: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
  ) {
    precondition(count == 0, "the last collection was not finished")
    self.socket = socket
    self.prefix = prefix
    outcome = Outcome(limit: limit)
  }

  /// Adds one datagram, or several that the kernel has joined.
  /// - Parameters:
  ///   - bytes: the payload, or payloads that lie one behind the other.
  ///   - segment: bytes of each of the joined payloads, of which the last may be shorter; 0 for a
  ///     single one.
  ///   - header: what precedes each payload, at most `maximumHeaderBytes`.
  ///   - address: where to; nil for the peer of a connected socket.
  mutating func append(
    _ bytes: UnsafeRawBufferPointer, joinedEvery segment: Int = 0,
    behind header: Span<UInt8>, to address: SocketAddress?
  ) {
    guard segment > 0, bytes.count > segment else {
      appendOne(bytes, behind: header, to: address)
      return
    }
    var offset = 0
    while offset < bytes.count {
      let end = min(offset + segment, bytes.count)
      appendOne(
        UnsafeRawBufferPointer(rebasing: bytes[offset..<end]), behind: header, to: address)
      offset = appendMore(of: bytes, from: end, every: segment)
    }
  }

  /// Sends what is left, and tells what became of everything since `begin`.
  mutating func finish() -> Outcome {
    sendAll()
    return outcome
  }

  // MARK: Collecting

  private mutating func appendOne(
    _ payload: UnsafeRawBufferPointer, behind header: Span<UInt8>, to address: SocketAddress?
  ) {
    if count == Self.maximumDatagrams { sendAll() }
    if !lastRunTakes(payload.count, behind: header, to: address) {
      if runs.count == DatagramWriter.capacity { sendAll() }
      beginRun(payload.count, behind: header, to: address)
    }
    // SAFETY: `count` is below the capacity, and what lies there is trivial.
    payloads[count] = payload
    count += 1
    let last = runs.count - 1
    runs[last].datagrams = runs[last].datagrams.lowerBound..<count
    if payload.count < runs[last].size { runs[last].isComplete = true }
  }

  /// Adds more of what is in the last run already, as much as it takes; returns where that ends.
  private mutating func appendMore(
    of bytes: UnsafeRawBufferPointer, from start: Int, every segment: Int
  ) -> Int {
    let last = runs.count - 1
    let runCount = runs[last].datagrams.count
    let perDatagram = bytesPerDatagram(of: last)
    guard !runs[last].isComplete, runs[last].size == segment else { return start }
    // The last datagram may be shorter, and then ends the run: it goes the ordinary way.
    let room = min(
      Self.maximumRunDatagrams, Self.maximumRunBytes / perDatagram,
      Self.maximumDatagrams - count + runCount)
    let more = max(min((bytes.count - start) / segment, room - runCount), 0)
    for index in 0..<more {
      let offset = start + index * segment
      // SAFETY: `room` keeps `count` below the capacity, and what lies there is trivial.
      payloads[count + index] = UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + segment])
    }
    count += more
    runs[last].datagrams = runs[last].datagrams.lowerBound..<count
    return start + more * segment
  }

  private func lastRunTakes(
    _ size: Int, behind header: Span<UInt8>, to address: SocketAddress?
  ) -> Bool {
    guard !runs.isEmpty else { return false }
    let last = runs.count - 1
    let runCount = runs[last].datagrams.count
    let perDatagram = bytesPerDatagram(of: last)
    let whole = prefix.count + header.count + size
    // The kernel cuts nothing into datagrams without a byte.
    guard !runs[last].isComplete, size <= runs[last].size, whole > 0,
      runCount < Self.maximumRunDatagrams,
      perDatagram * runCount + whole <= Self.maximumRunBytes,
      runs[last].headerCount == header.count, runs[last].address == address
    else { return false }
    for index in 0..<header.count where runs[last].header[index] != header[index] { return false }
    return true
  }

  /// Of all datagrams of a run but perhaps the last, with what precedes their payloads.
  private func bytesPerDatagram(of run: Int) -> Int {
    prefix.count + runs[run].headerCount + runs[run].size
  }

  private mutating func beginRun(
    _ size: Int, behind header: Span<UInt8>, to address: SocketAddress?
  ) {
    precondition(header.count <= Self.maximumHeaderBytes)
    precondition(prefix.isEmpty || header.count > 0)
    var copy = [32 of UInt8](repeating: 0)
    for index in 0..<header.count { copy[index] = header[index] }
    runs.append(
      Run(
        address: address, header: copy, headerCount: header.count, size: size,
        datagrams: count..<count, isComplete: false))
  }

  // MARK: Sending

  private mutating func sendAll() {
    while nextRun < runs.count {
      fill()
      sendMessages()
    }
    writer.removeAll()
    runs.removeAll(keepingCapacity: true)
    (nextRun, next, count) = (0, 0, 0)
  }

  /// Makes messages of what is left, as many as fit: one of a run that can be segmented, else one of
  /// each datagram.
  private mutating func fill() {
    writer.removeAll()
    messages.removeAll(keepingCapacity: true)
    var (run, first) = (nextRun, next)
    while run < runs.count {
      let end = runs[run].datagrams.upperBound
      let isSegmented = bytesPerDatagram(of: run) <= outcome.limit.bytes
      let taken = isSegmented ? end - first : 1
      guard writer.hasRoom(parts: (prefix.isEmpty ? 2 : 3) * taken) else { return }
      write(run, datagrams: first..<first + taken)
      messages.append(taken)
      first += taken
      if first == end { run += 1 }
    }
  }

  private mutating func write(_ index: Int, datagrams: Range<Int>) {
    let run = runs[index]
    if let address = run.address { writer.begin(to: address) } else { writer.begin() }
    if datagrams.count > 1 { writer.cutLastMessage(every: bytesPerDatagram(of: index)) }
    guard run.headerCount > 0 else {
      writePayloads(datagrams)
      return
    }
    let header = UnsafeMutableBufferPointer(rebasing: writer.header[..<run.headerCount])
    for index in header.indices { header[index] = run.header[index] }
    for index in datagrams {
      if !prefix.isEmpty { writer.append(prefix) }
      writer.append(UnsafeRawBufferPointer(header))
      if !payloads[index].isEmpty { writer.append(payloads[index]) }
    }
  }

  /// Without headers, payloads that lie one behind the other are one part.
  private mutating func writePayloads(_ datagrams: Range<Int>) {
    var part = payloads[datagrams.lowerBound]
    for index in datagrams.dropFirst() {
      let payload = payloads[index]
      if let start = part.baseAddress, start + part.count == payload.baseAddress {
        // SAFETY: both are parts of memory that the caller keeps, and there is none between them.
        part = UnsafeRawBufferPointer(start: start, count: part.count + payload.count)
      } else {
        writer.append(part)
        part = payload
      }
    }
    if !part.isEmpty { writer.append(part) }
  }

  /// Sends the messages; returns early, before the first that has to be made anew.
  private mutating func sendMessages() {
    var message = 0
    var isRetry = false
    while message < messages.count {
      switch writer.send(by: socket, from: message) {
      case .sent(let end):
        for index in message..<end { countSent(messages[index]) }
        message = end
        isRetry = false
      case .failed(.connectionRefused) where !isRetry,
        .failed(.protocolNotAvailable) where !isRetry:
        // The answer to an earlier datagram, which is told once (udp(7), "Error handling").
        isRetry = true
      case .failed(.wouldBlock), .failed(.noBufferSpace):
        drop(count - next, \.unsentCount)
        return
      case .failed(let error):
        if messages[message] > 1, lowerLimit(error) { return }
        drop(messages[message], error == .messageTooLong ? \.tooLargeCount : \.unsentCount)
        message += 1
        isRetry = false
      }
    }
  }

  /// Whether the kernel refused to segment the message that is next: the segments do not fit the way
  /// (EINVAL, EMSGSIZE), or the device, or the socket, cannot at all (EIO, EINVAL).
  private mutating func lowerLimit(_ error: Errno) -> Bool {
    switch error {
    case .invalidArgument, .messageTooLong:
      outcome.limit.lower(below: bytesPerDatagram(of: nextRun))
    case .inputOutput:
      outcome.limit.lower(below: 1)
    default:
      return false
    }
    return true
  }

  private mutating func countSent(_ datagrams: Int) {
    outcome.sentCount += datagrams
    for index in next..<next + datagrams { outcome.sentBytes += payloads[index].count }
    advance(datagrams)
  }

  private mutating func drop(_ datagrams: Int, _ counter: WritableKeyPath<Outcome, Int>) {
    outcome[keyPath: counter] += datagrams
    advance(datagrams)
  }

  private mutating func advance(_ datagrams: Int) {
    next += datagrams
    while nextRun < runs.count, runs[nextRun].datagrams.upperBound <= next { nextRun += 1 }
  }
}
