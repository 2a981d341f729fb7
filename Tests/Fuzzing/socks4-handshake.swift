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
/// Flags: 1 the destination is the name, else the address; 2 the server takes names; 4 a user; 8 the server
/// is to listen (BIND). What the client sends is cut by the answer's bytes, and the server has to understand
/// just that. Then the answer comes, in pieces, which may make no difference.
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
  let command: Command = flags & 8 == 0 ? .connect : .bind
  guard
    let machine = try? SOCKS4Handshake(
      command, destination: destination, user: flags & 4 == 0 ? nil : user,
      takesNames: flags & 2 != 0)
  else {
    precondition(
      flags & 3 == 1 || flags & 1 == 0 && (1...255).contains(address.bits),
      "refuses a destination that can be named")
    return
  }
  let start = Client(machine)
  let answer = rest.remainder
  check(
    start.sent, asks: command == .bind ? .bind(destination) : .connect(destination), cut: answer)

  let pieces = pieces(of: answer.span, from: 0)
  var client = start
  client.receive(pieces, of: answer.span)
  let stream = answer[..<(pieces.last?.upperBound ?? 0)]
  let expected = outcome(of: stream, replies: command == .bind ? 2 : 1)
  precondition(client.progress.action == expected.action, "ends in another way than its model")
  precondition(client.progress.consumed == expected.consumed, "takes other bytes")
  let listener = command == .bind ? place(in: stream) : nil
  let peer = listener == nil ? nil : place(in: stream.dropFirst(8))
  precondition(client.progress.isListening == (listener != nil), "listens without a reply")
  precondition(client.machine.listener == listener, "listens elsewhere")
  precondition(client.machine.peer == peer, "somebody else has come")
  client.end(before: [0, 0x5A, 0x48])
}

/// What comes of a server's answer, of so many replies.
private func outcome(of answer: ArraySlice<UInt8>, replies: Int) -> (
  action: ClientHandshake.Action, consumed: Int
) {
  var rest = answer
  for _ in 0..<replies {
    let before = answer.count - rest.count
    guard let version = rest.popFirst() else { return (.receive, before) }
    guard version == 0 else {
      return (.failed(.protocolViolation(.wrongReplyVersion(version))), before + 1)
    }
    guard let code = rest.popFirst() else { return (.receive, before + 1) }
    guard code == 0x5A else {
      return (.failed(.refusedBySOCKS4(SOCKS4ReplyCode(rawValue: code))), before + 2)
    }
    guard rest.count >= 6 else { return (.receive, answer.count) }
    rest = rest.dropFirst(6)
  }
  return (.established, 8 * replies)
}

/// The address and port in a reply that grants, if all of it is there.
private func place(in reply: ArraySlice<UInt8>) -> SocketAddress? {
  let bytes = Array(reply.prefix(8))
  guard bytes.count == 8, bytes[0] == 0, bytes[1] == 0x5A else { return nil }
  let address = bytes[4...].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
  return SocketAddress(.v4(IPv4Address(bits: address)), UInt16(bytes[2]) << 8 | UInt16(bytes[3]))
}

/// The server understands what the client wants, however the request is cut, and takes no byte that comes
/// behind it.
private func check(
  _ request: [UInt8], asks expected: ServerHandshake.Action, cut sizes: [UInt8]
) {
  var server = ServerHandshake(logins: nil, listens: true)
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
  precondition(action == expected, "the server understands something else")
  precondition(answered.isEmpty, "the server answers before it has connected")
}

/// A machine that has been started. It traps if what it sends exceeds `maximumOutputBytes`.
private struct Client: FuzzedClient {
  private(set) var machine: SOCKS4Handshake
  private(set) var sent: [UInt8] = []
  var progress = ClientProgress()

  init(_ machine: SOCKS4Handshake) {
    self.machine = machine
    sent.append(addingCapacity: SOCKS4Handshake.maximumOutputBytes) {
      self.machine.start(into: &$0)
    }
  }

  mutating func take(_ piece: Span<UInt8>) -> (consumed: Int, action: ClientHandshake.Action) {
    machine.receive(piece)
  }

  mutating func takeEnd() -> HandshakeFailure { machine.receiveEnd() }
}
