internal import Addressing
internal import SOCKS

/// A whole conversation of SOCKS4 or SOCKS4a between our client and our server:
///
///     +-------+------+---------+------------+------+------------+------+---------------------+
///     | flags | port | address | user count | user | name count | name | server's answer …   |
///     +-------+------+---------+------------+------+------------+------+---------------------+
///     | 1     | 2    | 4       | 1          | …    | 1          | …    | and sizes of pieces |
///     +-------+------+---------+------------+------+------------+------+---------------------+
///
/// Flags: 1 the destination is the name, else the address; 2 the server takes names; 4 a user. What the
/// client sends is cut by the answer's bytes, and the server has to understand just that. Then the answer
/// comes, in pieces, which may make no difference.
func fuzz(_ input: Span<UInt8>) {
  var rest = Fields(input)
  let flags = rest.byte()
  let port = UInt16(rest.byte()) << 8 | UInt16(rest.byte())
  let address = IPv4Address(bits: (0..<4).reduce(0) { bits, _ in bits << 8 | UInt32(rest.byte()) })
  let user = UserID(rest.bytes(Int(rest.byte())))
  let name = HostName(String(decoding: rest.bytes(Int(rest.byte())), as: UTF8.self))
  var destination = Endpoint.address(SocketAddress(.v4(address), port))
  if flags & 1 != 0 {
    guard let name else { return }
    destination = .name(name, port: port)
  }
  guard
    let machine = try? SOCKS4Handshake(
      destination: destination, user: flags & 4 == 0 ? nil : user, takesNames: flags & 2 != 0)
  else {
    precondition(
      flags & 3 == 1 || flags & 1 == 0 && (1...255).contains(address.bits),
      "refuses a destination that can be named")
    return
  }
  let start = Client(machine)
  let answer = rest.remainder
  check(start.sent, asks: destination, cut: answer)

  let pieces = pieces(of: answer.span, from: 0)
  var client = start
  for piece in pieces { client.receive(answer.span.extracting(piece)) }
  let expected = outcome(of: answer[..<(pieces.last?.upperBound ?? 0)])
  precondition(client.action == expected.action, "ends in another way than its model")
  precondition(client.consumed == expected.consumed, "takes other bytes")
  client.end()
}

/// What comes of a server's answer.
private func outcome(of answer: ArraySlice<UInt8>) -> (
  action: ClientHandshake.Action, consumed: Int
) {
  guard let version = answer.first else { return (.receive, 0) }
  guard version == 0 else { return (.failed(.protocolViolation(.wrongReplyVersion(version))), 1) }
  guard answer.count >= 2 else { return (.receive, 1) }
  guard answer[1] == 0x5A else {
    return (.failed(.refusedBySOCKS4(SOCKS4ReplyCode(rawValue: answer[1]))), 2)
  }
  return answer.count < 8 ? (.receive, answer.count) : (.established, 8)
}

/// The server connects where the client wants to go, however the request is cut, and takes no byte that
/// comes behind it.
private func check(_ request: [UInt8], asks destination: Endpoint, cut sizes: [UInt8]) {
  var server = ServerHandshake(logins: nil)
  var answered: [UInt8] = []
  var action = ServerHandshake.Action.receive
  var start = 0
  for size in sizes + [255, 255, 255] where action == .receive {
    let end = min(start + Int(size), request.count)
    let piece = Array(request[start..<end]) + (end == request.count ? [0, 4, 5] : [])
    var taken = 0
    answered.append(addingCapacity: ServerHandshake.maximumOutputBytes) {
      (taken, action) = server.receive(piece.span, into: &$0)
    }
    precondition(taken == end - start, "took too little or too much of a request")
    start = end
  }
  precondition(action == .connect(destination), "the server understands something else")
  precondition(answered.isEmpty, "the server answers before it has connected")
}

/// A client that has been started, with what came of it. It traps if what it sends exceeds
/// `maximumOutputBytes`.
private struct Client {
  private var machine: SOCKS4Handshake
  private(set) var sent: [UInt8] = []
  private(set) var consumed = 0
  private(set) var action = ClientHandshake.Action.receive

  init(_ machine: SOCKS4Handshake) {
    self.machine = machine
    sent.append(addingCapacity: SOCKS4Handshake.maximumOutputBytes) {
      self.machine.start(into: &$0)
    }
  }

  mutating func receive(_ piece: Span<UInt8>) {
    let earlier = action
    let taken: Int
    (taken, action) = machine.receive(piece)
    precondition((0...piece.count).contains(taken), "took bytes that are not there")
    precondition(action != .receive || taken == piece.count, "left bytes and asked for more")
    precondition(earlier == .receive || action == earlier && taken == 0, "went on after its end")
    consumed += taken
  }

  /// The server closes; what comes then of an established connection is not the machine's business.
  mutating func end() {
    guard action != .established else { return }
    let failure = machine.receiveEnd()
    precondition(action == .receive || action == .failed(failure), "failed in another way")
    action = .failed(failure)
    receive([0, 0x5A, 0x48].span)
  }
}
