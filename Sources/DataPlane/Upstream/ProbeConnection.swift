package import Addressing
package import LinuxIO
package import SOCKS

/// How bytes go out before there is a reply.
package enum EarlyWrite: Hashable, Sendable, CaseIterable {
  /// In one write with the request.
  case withRequest
  /// In one of their own, behind it.
  case behindRequest
  /// In one write with all of a pipelined handshake.
  case withHandshake
}

package struct EarlyBytes: Sendable {
  let bytes: [UInt8]
  let write: EarlyWrite

  package init(_ bytes: [UInt8], _ write: EarlyWrite) {
    self.bytes = bytes
    self.write = write
  }
}

/// A connection of our own to an upstream, off every flow's path: a handshake, and then a few bytes each
/// way. It blocks its thread, every call up to `deadline` at most, except for steps of GSSAPI, which may ask
/// a key distribution centre.
package final class ProbeConnection {
  /// How long the upstream has been waited for, in microseconds.
  package struct Waits: Hashable, Sendable {
    package var connect = 0
    /// By what was expected; in a chain those of all hops.
    package var handshake: [HandshakePhase: Int] = [:]
    /// Answers that were waited for before anything more could be sent, the connection's own included.
    package var roundTrips = 1

    package init() {}
  }

  /// What came next.
  package enum Arrival: Hashable, Sendable {
    case bytes([UInt8])
    /// The stream has ended, or was reset.
    case end
    /// Nothing, up to the deadline.
    case silence
  }

  /// Room for what is received at once.
  private static let bufferBytes = 4096

  package var deadline: Instant
  package private(set) var waits = Waits()
  /// How the handshake failed, in the words of the upstream's protocol.
  package private(set) var failure: HandshakeFailure?

  let upstream: Upstream
  let mark: UInt32?
  private let socket: Descriptor
  private let negotiation = Negotiation()
  private let buffer = UnsafeMutableRawBufferPointer.allocate(
    byteCount: ProbeConnection.bufferBytes, alignment: 16)
  /// What came behind the reply.
  private var rest: [UInt8] = []

  /// Connects.
  package init(to upstream: Upstream, mark: UInt32?, deadline: Instant) throws(Errno) {
    let start = ContinuousClock.now
    socket = try Self.connect(to: upstream, mark: mark, deadline: deadline)
    waits.connect = start.microsecondsToNow
    self.upstream = upstream
    self.mark = mark
    self.deadline = deadline
  }

  deinit { buffer.deallocate() }

  private static func connect(
    to upstream: Upstream, mark: UInt32?, deadline: Instant
  ) throws(Errno) -> Descriptor {
    while true {
      if let socket = try upstream.place.connect(mark: mark) {
        guard socket.wait(for: .writable, until: deadline) else { throw .timedOut }
        if let error = socket.pendingError { throw error }
        return socket
      }
      guard .now() < deadline else { throw .timedOut }
      pause(Upstream.Place.pauseWhileFull)
    }
  }

  /// Where the upstream sees us, as far as this host knows: the loopback behind a Unix socket.
  package var localAddress: IPAddress { socket.localAddress?.address ?? .v4(.loopback) }

  /// What the upstream has reported as its own side; for after a request that succeeded.
  package var bound: (address: Endpoint?, port: UInt16) { negotiation.bound }

  /// What speaks for us where every byte is protected by GSSAPI.
  var channel: ProtectedChannel? { negotiation.protection }

  // MARK: Handshake

  /// Asks for the destination, once; whether it succeeds, `send` and `receive` go on from there.
  /// - Parameter hop: of a chain, counted from 0, the one that is asked; nil: the last.
  /// - Parameter early: bytes for the destination that go out before there is a reply; not by GSSAPI.
  package func request(
    _ command: SOCKS.Command = .connect, to destination: Endpoint, hop: Int? = nil,
    mode: ClientHandshake.Mode, early: EarlyBytes? = nil
  ) -> UpstreamProbe.Outcome {
    negotiation.startClient(command, to: destination, at: upstream, hop: hop, mode)
    if let failure = negotiation.impossibility { return fail(failure) }
    var early = early
    var hasAsked = false
    while true {
      let isRequest =
        (mode == .pipelined || [.reply, .answer].contains(negotiation.phase))
        && negotiation.isAtLastHop
      if isRequest, let bytes = early {
        let request = negotiation.takeUnsent()
        let writes =
          bytes.write == .behindRequest ? [request, bytes.bytes] : [request + bytes.bytes]
        for bytes in writes { guard send(bytes) else { return fail() } }
        early = nil
        hasAsked = true
      } else if negotiation.hasUnsent {
        guard flush() else { return fail() }
        hasAsked = true
      }
      let (phase, start) = (negotiation.phase, ContinuousClock.now)
      let arrival = read()
      if let phase { waits.handshake[phase, default: 0] += start.microsecondsToNow }
      guard case .bytes(let bytes) = arrival else { return fail(isTimeout: arrival == .silence) }
      if hasAsked {
        waits.roundTrips += 1
        hasAsked = false
      }
      let (consumed, action) = bytes.withUnsafeBytes { negotiation.receiveAsClient($0) }
      switch action {
      case .receive: continue
      case .step:
        guard let channel = negotiation.channel else { preconditionFailure("a step of nothing") }
        channel.makeStep()
        if let failure = channel.failedStep { return fail(failure) }
      case .listening, .established:
        keep(Array(bytes[consumed...]))
        return .replied(.succeeded)
      case .failed(let failure): return fail(failure)
      }
    }
  }

  private func keep(_ bytes: [UInt8]) {
    if channel != nil {
      bytes.withUnsafeBytes { negotiation.beginProtection(with: $0) }
    } else {
      rest = bytes
    }
  }

  private func fail(_ failure: HandshakeFailure) -> UpstreamProbe.Outcome {
    self.failure = failure
    return UpstreamProbe.Outcome(failure, of: negotiation)
  }

  /// Nothing more came.
  private func fail(isTimeout: Bool = false) -> UpstreamProbe.Outcome {
    failure = negotiation.endAsClient()
    return UpstreamProbe.Outcome(end: negotiation, isTimeout: isTimeout)
  }

  /// False if the connection has ended, or the deadline come.
  private func flush() -> Bool {
    while true {
      switch negotiation.flush(to: socket.rawValue) {
      case .bytes: return true
      // Only a ticket can be longer than a fresh socket's buffer.
      case .wouldBlock: guard socket.wait(for: .writable, until: deadline) else { return false }
      case .failed: return false
      }
    }
  }

  // MARK: Stream

  /// Sends bytes to the destination; without a request, to the upstream itself. False if the connection
  /// has ended, or the deadline come.
  package func send(_ bytes: [UInt8]) -> Bool {
    guard let channel else { return write(bytes) }
    do {
      try bytes.span.withUnsafeBytes { (bytes) throws(HandshakeFailure) in
        try channel.wrap(bytes)
      }
    } catch {
      return false
    }
    return flush()
  }

  /// Says that nothing more will be sent.
  package func endSending() { StreamSocket.shutdownSending(socket.rawValue) }

  package func receive() -> Arrival {
    guard let channel else {
      guard rest.isEmpty else {
        defer { rest = [] }
        return .bytes(rest)
      }
      return read()
    }
    while true {
      if !channel.isDelivered {
        var bytes: [UInt8] = []
        channel.takeDelivery { bytes = Array($0) }
        return .bytes(bytes)
      }
      do {
        if try channel.unwrapNext() { continue }
      } catch {
        return .end
      }
      let arrival = read()
      guard case .bytes(let bytes) = arrival else { return arrival }
      _ = bytes.withUnsafeBytes { channel.take($0) }
    }
  }

  private func read() -> Arrival {
    // No more than the channel takes at once.
    let buffer = UnsafeMutableRawBufferPointer(
      rebasing: buffer.prefix(channel?.room.count ?? Self.bufferBytes))
    while true {
      guard socket.wait(for: .readable, until: deadline) else { return .silence }
      switch LinuxIO.receive(socket.rawValue, into: buffer) {
      case .wouldBlock: continue
      case .bytes(0), .failed: return .end
      case .bytes(let count): return .bytes(Array(buffer[..<count]))
      }
    }
  }

  private func write(_ bytes: [UInt8]) -> Bool {
    var unsent = UnsentBytes()
    unsent.bytes = bytes
    while true {
      switch unsent.flush(to: socket.rawValue) {
      case .bytes: return true
      case .wouldBlock: guard socket.wait(for: .writable, until: deadline) else { return false }
      case .failed: return false
      }
    }
  }
}

extension ContinuousClock.Instant {
  /// How long ago this was.
  package var microsecondsToNow: Int {
    let (seconds, attoseconds) = duration(to: .now).components
    return Int(seconds) * 1_000_000 + Int(attoseconds / 1_000_000_000_000)
  }
}
