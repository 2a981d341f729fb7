internal import Addressing
internal import LinuxIO
internal import SOCKS

/// What a session needs only until its relay begins: the protocol machine, the bytes that it wants
/// sent, and where the flow is going. Pooled per worker, so that a relaying session carries none of it.
final class Negotiation {
  private struct Goal {
    let chain: Upstream
    /// The hop that is asked for it.
    let hop: Int
    let command: SOCKS.Command
    let destination: Endpoint
  }

  /// The side that we play; nil while a captured flow is still connecting.
  enum Machine {
    case none
    case client(ClientHandshake)
    case protected(ProtectedChannel)
    case tunnel(TunnelHandshake)
    case socks4(SOCKS4Handshake)
    /// There is nothing to ask the upstream for: its protocol has no words for it.
    case impossible(HandshakeFailure)
    case server(ServerHandshake)
  }

  var machine = Machine.none
  /// Whether the client machine was started in pipelined mode.
  var isPipelined = false
  /// How many of the application's bytes have gone out behind the request, and are still in its socket.
  var earlyCount = 0
  /// Which hop of a chain the client machine speaks with.
  private(set) var hop = 0
  /// What of the upstream a failure is about.
  var part: UpstreamPart { UpstreamPart(member: member, hop: hop) }
  /// What carries everything that is said behind a hop that wants GSSAPI; nil where no hop does.
  private var carrier: ProtectedChannel?
  /// Whether the upstream listens for us: it has given the first reply to BIND.
  private(set) var isListening = false
  /// What is asked for at the end of a chain; nil where that is its first hop.
  private var goal: Goal?
  /// Since when the connection has waited in the pool; nil for one that was made for this flow.
  var pooledSince: Instant?
  /// The flow had a connection of the pool that was dead, this old, and gets no other.
  var deadAge: Timeout?
  /// How long its phases have taken with that member.
  var timing = HandshakeTiming()
  /// Which member of the group of upstreams it is with.
  var member = 0
  /// Those that it may be with.
  var allowed = MemberSet()
  /// Those that it has been with, this one included.
  var tried = MemberSet()
  /// The contenders of a session that upstreams race for.
  var contenders: [Int32] = []
  /// What a member is chosen by where the same flows go the same way.
  var key: UInt64 = 0
  /// When connecting to the upstream has taken too long.
  var connectDeadline = Instant(milliseconds: 0)
  /// When the handshake has, where that is looked at more often.
  var handshakeDeadline = Instant(milliseconds: 0)
  /// What a captured flow fills in in the upstream's credentials; nil where they are the same for all.
  var flow: FlowIdentity?
  /// Where a client of the embedded server wants to go.
  var destination: Endpoint?
  /// What it wants there: a connection, or to be connected from there (BIND).
  var command = SOCKS.Command.connect
  /// Where the embedded server may still try to connect, the next one last; or who may connect to it, with
  /// BIND.
  var candidates: [SocketAddress] = []
  /// Where it tries now.
  private(set) var attempted: SocketAddress?
  /// What the attempts so far say of the target.
  private(set) var targetError: TargetError?

  /// A machine's whole output fits, so bytes are only ever appended.
  private var output = UnsafeMutableBufferPointer<UInt8>(start: nil, count: 0)
  private var outputCount = 0
  private var sentCount = 0

  deinit { output.deallocate() }

  /// Makes it ready for the next session.
  func reset() {
    restart()
    deadAge = nil
    member = 0
    allowed = MemberSet()
    tried = MemberSet()
    contenders.removeAll(keepingCapacity: true)
    flow = nil
    destination = nil
    command = .connect
    attempted = nil
    targetError = nil
    candidates.removeAll(keepingCapacity: true)
  }

  /// Forgets a client's handshake, to begin another for the same flow.
  func restart() {
    machine = .none
    isPipelined = false
    earlyCount = 0
    hop = 0
    carrier = nil
    isListening = false
    goal = nil
    pooledSince = nil
    timing = HandshakeTiming()
    outputCount = 0
    sentCount = 0
  }

  /// The next of the candidates, which is tried now.
  func nextCandidate() -> SocketAddress? {
    attempted = candidates.popLast()
    return attempted
  }

  /// The attempt has failed.
  func note(_ errno: Errno) {
    let error = TargetError(errno: errno, isIPv4: attempted?.address.isIPv4 ?? true)
    if targetError.map(error.saysMore(than:)) ?? true { targetError = error }
  }

  /// Makes room for what a machine writes at most. The buffer stays with the next sessions, which mostly
  /// have the same machine.
  private func makeRoom(_ bytes: Int) {
    guard output.count < bytes else { return }
    precondition(outputCount == 0)
    output.deallocate()
    output = .allocate(capacity: bytes)
  }

  /// What the machine wrote and the socket has not taken yet.
  var unsent: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(output)[sentCount..<outputCount])
  }

  /// Whether `flush` has something to do.
  var hasUnsent: Bool {
    if let channel { return !channel.isSent }
    return sentCount < outputCount || carrier.map { !$0.isSent } ?? false
  }

  /// What is unsent, to be sent by whoever takes it. Not of a `channel`, which has its own, and not in one.
  func takeUnsent() -> [UInt8] {
    defer { sentCount = outputCount }
    return Array(unsent)
  }

  /// So many of the unsent bytes have been sent by another than `flush`.
  func noteSent(_ count: Int) { sentCount += count }

  /// Runs a step of the machine that may append to the output.
  private func append<Result>(_ step: (inout OutputSpan<UInt8>) -> Result) -> Result {
    // SAFETY: the first `outputCount` bytes are initialised; the span does not outlive the call.
    var span = OutputSpan(buffer: output, initializedCount: outputCount)
    let result = step(&span)
    outputCount = span.finalize(for: output)
    return result
  }

  /// Sends what is unsent; `.bytes` when nothing is left.
  func flush(to socket: Int32) -> Transfer {
    if case .protected(let channel) = machine { return channel.flush(to: socket) }
    if let carrier { return flush(to: socket, inside: carrier) }
    while sentCount < outputCount {
      switch send(socket, unsent) {
      case .bytes(let count): sentCount += count
      case .wouldBlock: return .wouldBlock
      case .failed(let error): return .failed(error)
      }
    }
    return .bytes(outputCount)
  }

  private func flush(to socket: Int32, inside carrier: ProtectedChannel) -> Transfer {
    do {
      try carrier.wrap(unsent)
    } catch {
      return .failed(.connectionReset)
    }
    sentCount = outputCount
    return carrier.flush(to: socket)
  }

  // MARK: Client

  /// Begins a handshake in the way that is known to work with `upstream`.
  /// - Parameter hop: the one that is asked for the destination; nil: the last.
  func startClient(
    _ command: SOCKS.Command, to destination: Endpoint, at upstream: Upstream, hop: Int? = nil
  ) {
    startClient(command, to: destination, at: upstream, hop: hop, upstream.mode)
  }

  /// - Parameter mode: of SOCKS5, towards the first hop; the others have but one message.
  func startClient(
    _ command: SOCKS.Command, to destination: Endpoint, at upstream: Upstream, hop: Int? = nil,
    _ mode: ClientHandshake.Mode
  ) {
    let hop = hop ?? upstream.further.count
    guard hop > 0 else {
      startMachine(command, to: destination, upstream.dialect, mode)
      return
    }
    goal = Goal(chain: upstream, hop: hop, command: command, destination: destination)
    startMachine(.connect, to: upstream.further[0].endpoint, upstream.dialect, mode)
  }

  /// Goes on with the next hop of a chain, through the one that has just connected us.
  private func startNextHop() {
    guard let goal else { preconditionFailure("no hop behind the last") }
    let dialect = goal.chain.further[hop].dialect
    hop += 1
    isPipelined = false
    guard sentCount == outputCount else {
      // An answer to what has not been asked yet; and what is appended may not fit.
      machine = .impossible(.protocolViolation(.trailingBytes))
      return
    }
    (sentCount, outputCount) = (0, 0)
    if isAtLastHop {
      startMachine(goal.command, to: goal.destination, dialect, .stepwise)
    } else {
      startMachine(.connect, to: goal.chain.further[hop].endpoint, dialect, .stepwise)
    }
  }

  /// Whether what the upstream answers now is about the destination, and not about the next hop.
  var isAtLastHop: Bool { goal.map { hop == $0.hop } ?? true }

  private func startMachine(
    _ command: SOCKS.Command, to destination: Endpoint, _ dialect: Dialect,
    _ mode: ClientHandshake.Mode
  ) {
    do throws(HandshakeFailure) {
      switch try dialect.filledIn(by: flow ?? .ourselves(to: destination)) {
      case .socks5(let credentials):
        isPipelined = mode == .pipelined
        makeRoom(ClientHandshake.maximumOutputBytes(for: destination, credentials))
        var handshake = ClientHandshake(
          command, destination: destination, credentials: credentials, mode: mode)
        append { handshake.start(into: &$0) }
        machine = .client(handshake)
      case .gssapi(let offer):
        machine = .protected(
          ProtectedChannel(command, to: destination, offer, inside: carrier))
      case .http(let credentials):
        guard command == .connect else {
          throw command == .bind ? .bindNotSupported : .datagramsNotSupported
        }
        makeRoom(TunnelHandshake.maximumOutputBytes)
        var handshake = try TunnelHandshake(destination: destination, credentials: credentials)
        append { handshake.start(into: &$0) }
        machine = .tunnel(handshake)
      case .socks4(let user, let takesNames):
        guard command == .connect || command == .bind else { throw .datagramsNotSupported }
        makeRoom(SOCKS4Handshake.maximumOutputBytes)
        var handshake = try SOCKS4Handshake(
          command, destination: destination, user: user, takesNames: takesNames)
        append { handshake.start(into: &$0) }
        machine = .socks4(handshake)
      }
    } catch {
      machine = .impossible(error)
    }
  }

  /// What speaks for us where the hop that is spoken with wants GSSAPI; nil with every other machine.
  var channel: ProtectedChannel? {
    guard case .protected(let channel) = machine else { return nil }
    return channel
  }

  /// What every byte goes through that follows the handshake; nil where nothing is protected.
  var protection: ProtectedChannel? {
    channel.flatMap { $0.isProtected ? $0 : nil } ?? carrier
  }

  /// What the hop that is spoken with is to say next; nil where that is not known.
  var phase: HandshakePhase? {
    switch machine {
    case .client(let handshake): handshake.phase
    case .tunnel, .socks4: .answer
    case .protected(let channel): channel.phase
    case .none, .impossible, .server: nil
    }
  }

  /// Why nothing can be asked; nil where the upstream's answer is to be waited for.
  var impossibility: HandshakeFailure? {
    guard case .impossible(let failure) = machine else { return nil }
    return failure
  }

  /// Feeds the upstream's bytes to the client machine, and what is behind a hop's answer to that of the
  /// next.
  func receiveAsClient(
    _ input: UnsafeRawBufferPointer
  ) -> (consumed: Int, action: ClientHandshake.Action) {
    var consumed = 0
    while true {
      let rest = UnsafeRawBufferPointer(rebasing: input[consumed...])
      let (count, action) = carrier.map { feed(rest, outOf: $0) } ?? feed(rest)
      consumed += count
      if case .listening = action {
        isListening = true
        return (consumed, .listening)
      }
      guard case .established = action, !isAtLastHop else { return (consumed, action) }
      if let protection, protection !== carrier {
        protection.begin(with: UnsafeRawBufferPointer(rebasing: input[consumed...]))
        consumed = input.count
        carrier = protection
      }
      startNextHop()
      if let impossibility { return (consumed, .failed(impossibility)) }
    }
  }

  /// Feeds the machine what comes out of the messages of a hop before.
  private func feed(
    _ input: UnsafeRawBufferPointer, outOf carrier: ProtectedChannel
  ) -> (consumed: Int, action: ClientHandshake.Action) {
    var consumed = 0
    while true {
      while !carrier.isDelivered {
        let action = carrier.takePart { bytes in
          let (count, action) = feed(bytes)
          // Whoever wants more has taken all.
          if case .receive = action { return (bytes.count, action) }
          return (count, action)
        }
        guard case .receive = action else { return (consumed, action) }
      }
      do {
        if try carrier.unwrapNext() { continue }
      } catch {
        return (consumed, .failed(error))
      }
      guard consumed < input.count else { return (consumed, .receive) }
      consumed += carrier.take(UnsafeRawBufferPointer(rebasing: input[consumed...]))
    }
  }

  /// Takes what came behind the last reply, where everything is protected.
  func beginProtection(with rest: UnsafeRawBufferPointer) {
    guard let protection, protection !== carrier else { return }
    protection.begin(with: rest)
  }

  private func feed(
    _ input: UnsafeRawBufferPointer
  ) -> (consumed: Int, action: ClientHandshake.Action) {
    let input = input.bindMemory(to: UInt8.self).span
    switch machine {
    case .client(var handshake):
      machine = .none
      defer { machine = .client(handshake) }
      return append { handshake.receive(input, into: &$0) }
    case .tunnel(var handshake):
      machine = .none
      defer { machine = .tunnel(handshake) }
      return handshake.receive(input)
    case .socks4(var handshake):
      machine = .none
      defer { machine = .socks4(handshake) }
      return handshake.receive(input)
    case .protected(let channel): return channel.receive(input)
    case .impossible(let failure): return (0, .failed(failure))
    case .none, .server: preconditionFailure("no client machine")
    }
  }

  /// As much of a buffer as `receiveAsClient` takes at once.
  private func roomAsClient(in buffer: UnsafeMutableRawBufferPointer)
    -> UnsafeMutableRawBufferPointer
  {
    guard let carrier else { return buffer }
    return UnsafeMutableRawBufferPointer(rebasing: buffer.prefix(carrier.room.count))
  }

  /// What came of going on with the handshake.
  enum Progress {
    case waiting
    /// The channel's security context is to be stepped (`Worker.beginStep`), which may block.
    case stepping
    /// Bytes that the upstream has sent behind its reply; they stay until `scratch` is used again.
    case established(rest: UnsafeRawBufferPointer)
    case failed(HandshakeFailure)
  }

  /// Sends and receives as client as far as the socket goes. Readiness is edge-triggered.
  /// - Parameter scratch: for what is received.
  func advanceAsClient(
    on socket: Int32, _ readiness: inout Readiness, with scratch: UnsafeMutableRawBufferPointer
  ) -> Progress {
    if let impossibility { return .failed(impossibility) }
    if let channel, let failure = channel.failedStep { return .failed(failure) }
    while true {
      if channel?.isStepping == true { return .waiting }
      if readiness.contains(.writable) {
        switch flush(to: socket) {
        case .bytes: break
        case .wouldBlock: readiness.remove(.writable)
        case .failed: return .failed(endAsClient())
        }
      }
      guard readiness.contains(.readable) else { return .waiting }
      let scratch = roomAsClient(in: scratch)
      switch receive(socket, into: scratch) {
      case .bytes(0), .failed: return .failed(endAsClient())
      case .bytes(let count):
        if count < scratch.count, readiness.isDisjoint(with: .moreToRead) {
          readiness.remove(.readable)
        }
        let input = UnsafeRawBufferPointer(rebasing: scratch[..<count])
        var (consumed, action) = receiveAsClient(input)
        if case .listening = action {
          let second = receiveAsClient(UnsafeRawBufferPointer(rebasing: input[consumed...]))
          (consumed, action) = (consumed + second.consumed, second.action)
        }
        switch action {
        case .receive: continue
        case .listening: preconditionFailure("a listener is told of once")
        case .established:
          return .established(rest: UnsafeRawBufferPointer(rebasing: input[consumed...]))
        case .failed(let failure): return .failed(failure)
        case .step: return .stepping
        }
      case .wouldBlock:
        readiness.remove(.readable)
      }
    }
  }

  /// What the upstream has reported as its own side, once the handshake is through, or as its listener;
  /// the address is nil for a name that no host can have.
  var bound: (address: Endpoint?, port: UInt16) {
    switch machine {
    case .client(let handshake): return (handshake.boundAddress, handshake.boundPort)
    case .protected(let channel): return channel.bound
    case .socks4(let handshake):
      let listener = handshake.listener
      return (listener.map(Endpoint.address), listener?.port ?? 0)
    case .none, .tunnel, .impossible, .server: preconditionFailure("no client machine")
    }
  }

  /// Who has come to the listener of a BIND; nil for a name that no host can have.
  var peer: Endpoint? {
    switch machine {
    case .client(let handshake): return handshake.peer
    case .protected(let channel): return channel.peer
    case .socks4(let handshake): return handshake.peer.map(Endpoint.address)
    case .none, .tunnel, .impossible, .server: preconditionFailure("no client machine")
    }
  }

  /// Whether the upstream has been asked for the destination and owes nothing but the reply, which may take
  /// as long as reaching the destination does.
  var awaitsDestination: Bool {
    guard isAtLastHop else { return false }
    let end =
      if case .protected(let channel) = machine { channel.presentEnd } else { endAsClient() }
    switch end {
    case .closed(.reply), .closed(.answer): return true
    default: return false
    }
  }

  /// The upstream ended the stream in place of a reply.
  func endAsClient() -> HandshakeFailure {
    switch machine {
    case .client(var handshake): return handshake.receiveEnd()
    case .tunnel(var handshake): return handshake.receiveEnd()
    case .socks4(var handshake): return handshake.receiveEnd()
    case .protected(let channel): return channel.receiveEnd()
    case .impossible(let failure): return failure
    case .none, .server: preconditionFailure("no client machine")
    }
  }

  // MARK: Server

  func startServer(_ handshake: ServerHandshake) {
    makeRoom(ServerHandshake.maximumOutputBytes)
    machine = .server(handshake)
  }

  /// Feeds the client's bytes to the server machine.
  func receiveAsServer(
    _ input: UnsafeRawBufferPointer
  ) -> (consumed: Int, action: ServerHandshake.Action) {
    guard case .server(var handshake) = machine else { preconditionFailure("no server machine") }
    machine = .none
    defer { machine = .server(handshake) }
    return append { handshake.receive(input.bindMemory(to: UInt8.self).span, into: &$0) }
  }

  func replyAsServer(_ code: ReplyCode, bound: SocketAddress) {
    guard case .server(var handshake) = machine else { preconditionFailure("no server machine") }
    append { handshake.reply(code, bound: bound, into: &$0) }
    machine = .server(handshake)
  }
}
