internal import Addressing
internal import SOCKS

/// The first byte says what the client speaks: 1 SOCKS4, else HTTP CONNECT. The others are what a server
/// sends, in pieces, which may make no difference.
func fuzz(_ input: Span<UInt8>) {
  guard !input.isEmpty, let start = Client(input[0] & 1 == 0 ? tunnel : socks4) else { return }
  let pieces = pieces(of: input, from: 1)
  var client = start
  for piece in pieces { client.receive(input.extracting(piece)) }
  if let last = pieces.last {
    var other = start
    other.receive(input.extracting(1..<last.upperBound))
    precondition(client.isSame(as: other), "the pieces make a difference")
  }
  client.end()
}

private enum Machine {
  case tunnel(TunnelHandshake)
  case socks4(SOCKS4Handshake)
}

/// A machine with what came of it.
private struct Client {
  private var machine: Machine
  private var consumed = 0
  private var action = ClientHandshake.Action.receive

  /// Starts the machine; it traps if what it sends exceeds `maximumOutputBytes`.
  init?(_ machine: Machine?) {
    guard let machine else { return nil }
    var sent: [UInt8] = []
    switch machine {
    case .tunnel(var handshake):
      sent.append(addingCapacity: TunnelHandshake.maximumOutputBytes) { handshake.start(into: &$0) }
      self.machine = .tunnel(handshake)
    case .socks4(var handshake):
      sent.append(addingCapacity: SOCKS4Handshake.maximumOutputBytes) { handshake.start(into: &$0) }
      self.machine = .socks4(handshake)
    }
  }

  mutating func receive(_ piece: Span<UInt8>) {
    let earlier = action
    let taken: Int
    switch machine {
    case .tunnel(var handshake):
      (taken, action) = handshake.receive(piece)
      machine = .tunnel(handshake)
    case .socks4(var handshake):
      (taken, action) = handshake.receive(piece)
      machine = .socks4(handshake)
    }
    precondition((0...piece.count).contains(taken), "took bytes that are not there")
    precondition(action != .receive || taken == piece.count, "left bytes and asked for more")
    precondition(earlier == .receive || action == earlier && taken == 0, "went on after its end")
    consumed += taken
    precondition(
      consumed <= TunnelHandshake.maximumResponseBytes, "took more than a response may have")
  }

  func isSame(as other: Client) -> Bool { action == other.action && consumed == other.consumed }

  /// The server closes; what comes then of an established connection is not the machine's business.
  mutating func end() {
    guard action != .established else { return }
    let failure: HandshakeFailure
    switch machine {
    case .tunnel(var handshake):
      failure = handshake.receiveEnd()
      machine = .tunnel(handshake)
    case .socks4(var handshake):
      failure = handshake.receiveEnd()
      machine = .socks4(handshake)
    }
    precondition(action == .receive || action == .failed(failure), "failed in another way")
    action = .failed(failure)
    receive([0, 0x5A, 0x48].span)
  }
}

private let longestName: Endpoint? = HostName(String(repeating: "n", count: 255))
  .map { .name($0, port: 65535) }

private let longestCredentials = try? Credentials(
  username: String(repeating: "u", count: 255), password: String(repeating: "p", count: 255))

private let tunnel: Machine? = longestName.flatMap { name in
  (try? TunnelHandshake(destination: name, credentials: longestCredentials)).map { .tunnel($0) }
}

private let socks4: Machine? = longestName.flatMap { name in
  let user = UserID([UInt8](repeating: 1, count: UserID.maximumBytes))
  return (try? SOCKS4Handshake(destination: name, user: user, takesNames: true))
    .map { .socks4($0) }
}
