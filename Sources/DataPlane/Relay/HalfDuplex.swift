internal import LinuxIO

/// One direction of a session: bytes from a source socket to a sink socket.
///
///              source ends             all delivered, sink shut down
///     open ───────────────▶ ending ───────────────────────────────▶ ended
///                                    (or kept open, see `pump`)
///
/// Small and interactive traffic is copied through the worker's scratch buffer. A direction that
/// keeps filling that buffer borrows a pipe and splices, and gives the pipe back when it slows down.
/// What the sink does not take stays in a private buffer, or in the pipe, and nothing more is read
/// until it is gone: this is the back-pressure.
struct HalfDuplex {
  private enum Phase: UInt8 { case open, ending, ended }

  /// What came of one turn.
  enum Progress {
    /// Nothing more can be done until an event comes.
    case blocked
    /// The turn's share is used up; there may be more to do at once.
    case yielded
    case ended
    case sourceFailed(Errno)
    case sinkFailed(Errno)
  }

  /// Full buffers in a row after which a direction splices.
  private static let fullReadsBeforeSplice: UInt8 = 2
  /// A splice below this many bytes counts as small …
  private static let smallSpliceBytes = 8 * 1024
  /// … and after so many of them in a row the direction copies again.
  private static let smallSplicesBeforeCopy: UInt8 = 16

  private var phase = Phase.open
  /// Full reads in a row when copying, small splices in a row when splicing.
  private var streak: UInt8 = 0
  /// The pipe was filled since the last `giveBackIdlePipe`.
  private var hasSpliced = false
  /// `ShortPath` has seen the sockets.
  private var isAdapted = false
  private var pipe: Int16 = -1
  /// Bytes that the sink has not taken: in `held` if there is one, else in the pipe.
  private var waiting: UInt32 = 0
  private var heldOffset: UInt32 = 0
  private var held: UnsafeMutableRawPointer?

  var hasEnded: Bool { phase == .ended }

  /// Moves bytes until a socket blocks, the source ends or the turn's share is used up.
  /// - Parameter keepsSinkOpen: the sink is not shut down at this end: since the other direction has
  ///   ended and both sockets are closed now, or since the sink's peer would take it for the end of all.
  ///
  /// Readiness is edge-triggered: a flag is removed only when the kernel has said that the socket
  /// would block, or has shown it by giving less than was asked for (epoll(7)), so that the next
  /// change comes as an event.
  mutating func pump(
    from source: Int32, _ sourceReadiness: inout Readiness,
    to sink: Int32, _ sinkReadiness: inout Readiness,
    keepsSinkOpen: Bool, with resources: inout RelayResources, moved: inout Int
  ) -> Progress {
    var share = resources.turnBytes
    while phase != .ended {
      if waiting > 0 {
        guard sinkReadiness.contains(.writable) else { return .blocked }
        switch held != nil ? sendHeld(to: sink, &resources) : drainPipe(to: sink, &resources) {
        case .bytes(let count): moved += count
        case .wouldBlock: sinkReadiness.remove(.writable)
        case .failed(let error): return .sinkFailed(error)
        }
        continue
      }
      if phase == .ending {
        if !keepsSinkOpen { StreamSocket.shutdownSending(sink) }
        phase = .ended
        release(&resources)
        return .ended
      }
      guard sourceReadiness.contains(.readable), sinkReadiness.contains(.writable) else {
        return .blocked
      }
      guard share > 0 else { return .yielded }
      let result =
        pipe < 0
        ? copy(
          from: source, &sourceReadiness, to: sink, &sinkReadiness, keepsSinkOpen: keepsSinkOpen,
          &resources, &moved)
        : fillPipe(from: source, atMost: share, &resources)
      switch result {
      case .received(0), .receivedLast: phase = .ending
      case .received(let count): share -= count
      case .wouldBlock:
        sourceReadiness.remove(.readable)
        if streak >= Self.smallSplicesBeforeCopy { release(&resources) }
      case .sourceFailed(let error): return .sourceFailed(error)
      case .sinkFailed(let error): return .sinkFailed(error)
      }
    }
    return .ended
  }

  /// Marks the end of a direction whose bytes something else has moved.
  mutating func end() { phase = .ended }

  /// Puts bytes in front that were read before the relay began: they are sent first.
  mutating func hold(_ bytes: UnsafeRawBufferPointer, _ resources: inout RelayResources) {
    precondition(waiting == 0 && bytes.count <= BufferPool.bufferBytes)
    guard bytes.count > 0, let start = bytes.baseAddress else { return }
    let buffer = resources.buffers.lend()
    buffer.copyMemory(from: start, byteCount: bytes.count)
    held = buffer
    heldOffset = 0
    waiting = UInt32(bytes.count)
  }

  /// Gives back what this direction has borrowed; bytes that are still waiting are lost.
  mutating func release(_ resources: inout RelayResources) {
    if pipe >= 0 { resources.pipes.giveBack(pipe, isEmpty: waiting == 0 || held != nil) }
    if let buffer = held { resources.buffers.giveBack(buffer) }
    held = nil
    pipe = -1
    waiting = 0
    streak = 0
  }

  /// Gives the pipe back if nothing went through it since this was last asked.
  mutating func giveBackIdlePipe(_ resources: inout RelayResources) {
    guard pipe >= 0, waiting == 0 else { return }
    if !hasSpliced { release(&resources) }
    hasSpliced = false
  }

  // MARK: Copying

  private enum Taken {
    case received(Int)
    /// Bytes behind which the source has ended.
    case receivedLast
    case wouldBlock
    case sourceFailed(Errno)
    case sinkFailed(Errno)
  }

  private mutating func copy(
    from source: Int32, _ sourceReadiness: inout Readiness,
    to sink: Int32, _ sinkReadiness: inout Readiness,
    keepsSinkOpen: Bool, _ resources: inout RelayResources, _ moved: inout Int
  ) -> Taken {
    let scratch = resources.scratch
    var received: Int
    var behind: Transfer?
    switch receive(source, into: scratch) {
    case .bytes(0): return .received(0)
    case .bytes(let count): received = count
    case .wouldBlock: return .wouldBlock
    case .failed(let error): return .sourceFailed(error)
    }
    if received < scratch.count {
      streak = 0
      resources.hasShortReads = true
      // Less than asked for: the queue is empty, unless the end or an urgent mark is behind it.
      if sourceReadiness.isDisjoint(with: .moreToRead) {
        sourceReadiness.remove(.readable)
      } else if sourceReadiness.contains(.readClosed), !sourceReadiness.contains(.error) {
        // Read on before these bytes are sent: the end can go with them.
        let rest = UnsafeMutableRawBufferPointer(rebasing: scratch[received...])
        behind = receive(source, into: rest)
        if case .bytes(let more) = behind { received += more }
      }
    } else {
      streak += 1
      if streak >= Self.fullReadsBeforeSplice { beginSplicing(source, sink, &resources) }
    }
    var sent = 0
    let bytes = UnsafeRawBufferPointer(rebasing: scratch[..<received])
    let isLast = if case .bytes(0) = behind { true } else { false }
    switch isLast && !keepsSinkOpen ? sendLast(sink, bytes) : send(sink, bytes) {
    case .bytes(let count): sent = count
    case .wouldBlock: sinkReadiness.remove(.writable)
    case .failed(let error): return .sinkFailed(error)
    }
    moved += sent
    if sent < received {
      sinkReadiness.remove(.writable)
      hold(UnsafeRawBufferPointer(rebasing: scratch[sent..<received]), &resources)
    }
    if case .failed(let error) = behind { return .sourceFailed(error) }
    return isLast ? .receivedLast : .received(received)
  }

  private mutating func sendHeld(to sink: Int32, _ resources: inout RelayResources) -> Transfer {
    guard let buffer = held else { preconditionFailure("bytes wait but are held nowhere") }
    let bytes = UnsafeRawBufferPointer(
      start: buffer + Int(heldOffset), count: Int(waiting))
    let result = send(sink, bytes)
    if case .bytes(let count) = result {
      heldOffset += UInt32(count)
      waiting -= UInt32(count)
      if waiting == 0 {
        resources.buffers.giveBack(buffer)
        held = nil
      }
    }
    return result
  }

  // MARK: Splicing

  private mutating func beginSplicing(
    _ source: Int32, _ sink: Int32, _ resources: inout RelayResources
  ) {
    streak = 0
    if let lent = resources.pipes.lend() { pipe = lent }
    guard !isAdapted else { return }
    isAdapted = true
    resources.sinkFinding = ShortPath.adapt(
      source: source, sink: sink, leavingPacing: resources.leavesPacing)
  }

  /// The pipe is empty here, so a splice that would block means that the socket has nothing.
  private mutating func fillPipe(
    from source: Int32, atMost most: Int, _ resources: inout RelayResources
  ) -> Taken {
    let ends = resources.pipes.ends(pipe)
    switch splice(from: source, to: ends.write, atMost: most) {
    case .bytes(let count):
      waiting = UInt32(count)
      hasSpliced = true
      streak = count < Self.smallSpliceBytes ? min(streak + 1, .max - 1) : 0
      return .received(count)
    case .wouldBlock: return .wouldBlock
    case .failed(let error): return .sourceFailed(error)
    }
  }

  private mutating func drainPipe(to sink: Int32, _ resources: inout RelayResources) -> Transfer {
    let result = splice(from: resources.pipes.ends(pipe).read, to: sink, atMost: Int(waiting))
    if case .bytes(let count) = result { waiting -= UInt32(count) }
    return result
  }
}

extension Readiness {
  /// States in which a short read does not mean that there is nothing more to read.
  static let moreToRead: Readiness = [.readClosed, .hangUp, .error, .urgent]
}

/// What the directions of one worker share.
struct RelayResources: ~Copyable {
  /// What a direction moves at most in a turn after one with a read that did not fill the buffer, a message
  /// for which somebody waits (64 connections with questions and answers beside a stream: 0.82 of the p99
  /// that 256 KiB after four such reads gave, at the same speed of the stream).
  private static let sharedTurnBytes = 64 * 1024

  /// Where every copy passes through; its contents do not outlive a call.
  let scratch: UnsafeMutableRawBufferPointer
  var buffers = BufferPool()
  var pipes: PipePool
  /// Whether streams with a short path leave a congestion control that paces.
  let leavesPacing: Bool
  /// Of the direction that has begun to splice last; nil once it has been taken notice of.
  var sinkFinding: ShortPath.Finding?
  /// Bytes that a direction moves in this turn at most, so that one busy session does not starve its
  /// worker.
  fileprivate var turnBytes = PipePool.pipeBytes
  /// Of this turn so far.
  fileprivate var hasShortReads = false

  init(budget: DescriptorBudget, leavesPacing: Bool) {
    self.leavesPacing = leavesPacing
    scratch = .allocate(byteCount: BufferPool.bufferBytes, alignment: 4096)
    pipes = PipePool(budget: budget)
  }

  deinit { scratch.deallocate() }

  mutating func beginTurn() {
    turnBytes = hasShortReads ? Self.sharedTurnBytes : PipePool.pipeBytes
    hasShortReads = false
  }
}
