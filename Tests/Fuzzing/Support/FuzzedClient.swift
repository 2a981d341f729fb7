internal import SOCKS

/// The client's side of a handshake, with what came of what a server has said. Whatever that is, it traps
/// where the machine does what none may.
protocol FuzzedClient {
  var progress: ClientProgress { get set }

  /// Gives bytes to the machine.
  mutating func take(_ piece: Span<UInt8>) -> (consumed: Int, action: ClientHandshake.Action)
  /// Tells the machine of the end.
  mutating func takeEnd() -> HandshakeFailure
}

/// What came of a server's bytes.
struct ClientProgress: Equatable {
  fileprivate(set) var action = ClientHandshake.Action.receive
  fileprivate(set) var consumed = 0
  /// Whether the server has said that it listens (BIND).
  fileprivate(set) var isListening = false
}

extension FuzzedClient {
  /// Gives a piece to the machine; what is left when a server listens, if only nothing, once more.
  mutating func receive(_ piece: Span<UInt8>) {
    let earlier = progress
    var (taken, action) = take(piece)
    if action == .listening {
      precondition(!earlier.isListening, "listens twice")
      progress.isListening = true
      check(taken, of: piece.count)
      let (more, next) = take(piece.extracting(taken...))
      (taken, action) = (taken + more, next)
    }
    check(taken, of: piece.count)
    precondition(action != .listening, "listens twice")
    precondition(action != .receive || taken == piece.count, "left bytes and asked for more")
    precondition(
      earlier.action == .receive || action == earlier.action && taken == 0,
      "went on after its end")
    progress.action = action
    progress.consumed += taken
  }

  private func check(_ taken: Int, of count: Int) {
    precondition((0...count).contains(taken), "took bytes that are not there")
  }

  /// Gives a stream to the machine, in these pieces of the input.
  mutating func receive(_ pieces: [Range<Int>], of input: Span<UInt8>) {
    for piece in pieces { receive(input.extracting(piece)) }
  }

  /// Gives the same stream to the machine byte by byte.
  mutating func receiveBytes(of pieces: [Range<Int>], of input: Span<UInt8>) {
    guard let first = pieces.first, let last = pieces.last else { return }
    for index in first.lowerBound..<last.upperBound {
      receive(input.extracting(index..<(index + 1)))
    }
  }

  /// The server closes, and `bytes` come all the same; what comes then of an established connection is not
  /// the machine's business.
  mutating func end(before bytes: [UInt8]) {
    guard progress.action != .established else { return }
    let failure = takeEnd()
    precondition(
      progress.action == .receive || progress.action == .failed(failure), "failed in another way")
    progress.action = .failed(failure)
    receive(bytes.span)
  }
}
