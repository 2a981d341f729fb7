internal import Addressing
internal import SOCKS

/// The first byte says what the server wants: 1 credentials, which are `u` and `p`, and in its upper
/// seven bits how it replies, to BIND after it has told where it listens. The others are what a client sends, in pieces.
func fuzz(_ input: Span<UInt8>) {
  guard !input.isEmpty else { return }
  let start = Server(
    ServerHandshake(
      logins: input[0] & 1 == 0 ? nil : logins, relaysDatagrams: true, listens: true))

  let pieces = pieces(of: input, from: 1)
  var server = start
  for piece in pieces { server.receive(input.extracting(piece)) }
  if let last = pieces.last {
    var other = start
    other.receive(input.extracting(1..<last.upperBound))
    precondition(server.isSame(as: other), "the pieces make a difference")
  }
  server.reply(ReplyCode(rawValue: input[0] >> 1))
}

/// A machine with what came of it. It traps if all that it sends exceeds `maximumOutputBytes`.
private struct Server {
  private var machine: ServerHandshake
  private var sent: [UInt8] = []
  private var consumed = 0
  private var action = ServerHandshake.Action.receive

  init(_ machine: ServerHandshake) { self.machine = machine }

  mutating func receive(_ piece: Span<UInt8>) {
    let (earlier, sentBefore) = (action, sent.count)
    var taken = 0
    sent.append(addingCapacity: ServerHandshake.maximumOutputBytes - sent.count) {
      (taken, action) = machine.receive(piece, into: &$0)
    }
    precondition((0...piece.count).contains(taken), "took bytes that are not there")
    precondition(action != .receive || taken == piece.count, "left bytes and asked for more")
    consumed += taken
    precondition(
      earlier == .receive || action == earlier && taken == 0 && sent.count == sentBefore,
      "went on after its end")
    precondition((action == .reject) == (machine.rejection != nil), "rejected without a reason")
  }

  func isSame(as other: Server) -> Bool {
    action == other.action && consumed == other.consumed && sent == other.sent
      && machine.rejection == other.machine.rejection
  }

  /// Answers the request, if there is one.
  mutating func reply(_ code: ReplyCode) {
    switch action {
    case .connect, .associate: break
    case .bind: send(.succeeded)
    case .receive, .reject: return
    }
    send(code)
    if code != .succeeded {
      precondition(machine.rejection == .refused(code), "gives another reason")
      action = .reject
    }
    receive([5, 1, 0].span)
  }

  private mutating func send(_ code: ReplyCode) {
    sent.append(addingCapacity: ServerHandshake.maximumOutputBytes - sent.count) {
      machine.reply(code, bound: longestAddress, into: &$0)
    }
  }
}

private let longestAddress = SocketAddress(
  .v6(IPv6Address(high: 0x2001_0DB8_0000_0000, low: 1)), 443)

private let logins = (try? Credentials(username: "u", password: "p")).map { Logins($0) }
