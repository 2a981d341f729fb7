internal import Addressing
internal import SOCKS

/// The server's dialect of SOCKS4 and SOCKS4a. The first byte says what the server wants: 1 credentials,
/// 2 it listens. The others are what a client sends behind the version, in pieces, which may make no
/// difference; what comes of it is what a model finds that sees all at once.
func fuzz(_ input: Span<UInt8>) {
  guard !input.isEmpty else { return }
  let hasLogins = input[0] & 1 != 0
  let listens = input[0] & 2 != 0
  let pieces = pieces(of: input, from: 1)
  var server = Server(
    ServerHandshake(logins: hasLogins ? logins : nil, relaysDatagrams: true, listens: listens))
  server.receive([4].span)
  for piece in pieces { server.receive(input.extracting(piece)) }

  let stream = [4] + (1..<(pieces.last?.upperBound ?? 1)).map { input[$0] }
  let expected = outcome(of: stream, hasLogins: hasLogins, listens: listens)
  precondition(server.action == expected.action, "ends in another way than its model")
  precondition(server.consumed == expected.consumed, "takes other bytes")
  precondition(server.sent == expected.sent, "says something else")
  precondition(server.rejection == expected.rejection, "rejects for another reason")
}

/// A machine with what came of it. It traps if all that it sends exceeds `maximumOutputBytes`.
private struct Server {
  private var machine: ServerHandshake
  private(set) var sent: [UInt8] = []
  private(set) var consumed = 0
  private(set) var action = ServerHandshake.Action.receive

  init(_ machine: ServerHandshake) { self.machine = machine }

  var rejection: Rejection? { machine.rejection }

  mutating func receive(_ piece: Span<UInt8>) {
    let (earlier, sentBefore) = (action, sent.count)
    var taken = 0
    sent.append(addingCapacity: ServerHandshake.maximumOutputBytes - sent.count) {
      (taken, action) = machine.receive(piece, into: &$0)
    }
    precondition((0...piece.count).contains(taken), "took bytes that are not there")
    precondition(action != .receive || taken == piece.count, "left bytes and asked for more")
    precondition(
      earlier == .receive || action == earlier && taken == 0 && sent.count == sentBefore,
      "went on after its end")
    consumed += taken
  }
}

private struct Outcome {
  var action = ServerHandshake.Action.receive
  var consumed: Int
  var sent: [UInt8] = []
  var rejection: Rejection?

  static func rejected(_ rejection: Rejection, at consumed: Int) -> Outcome {
    Outcome(
      action: .reject, consumed: consumed, sent: [0, 0x5B, 0, 0, 0, 0, 0, 0], rejection: rejection)
  }
}

/// What comes of a request that begins `bytes`.
private func outcome(of bytes: [UInt8], hasLogins: Bool, listens: Bool) -> Outcome {
  let (userStart, most) = (8, 255)
  let needsMore = Outcome(consumed: bytes.count)
  guard bytes.count > userStart else { return needsMore }
  let user = bytes[userStart...].prefix { $0 != 0 }
  guard user.count <= most else {
    return .rejected(.protocolViolation(.userIDTooLong), at: userStart + most + 1)
  }
  guard user.endIndex < bytes.count else { return needsMore }

  let port = UInt16(bytes[2]) << 8 | UInt16(bytes[3])
  var consumed = user.endIndex + 1
  var destination: Endpoint?
  if bytes[4...6] == [0, 0, 0], bytes[7] != 0 {
    let name = bytes[consumed...].prefix { $0 != 0 }
    guard name.endIndex < bytes.count || name.count > most else { return needsMore }
    consumed += min(name.count, most) + 1
    if name.count <= most {
      destination = String(validating: name, as: UTF8.self).flatMap { HostName($0) }
        .map { .name($0, port: port) }
    }
  } else {
    let bits = bytes[4...7].reduce(0) { $0 << 8 | UInt32($1) }
    destination = .address(SocketAddress(.v4(IPv4Address(bits: bits)), port))
  }

  let command = Command(rawValue: bytes[1])
  if hasLogins { return .rejected(.noAcceptableMethod, at: consumed) }
  guard command == .connect || command == .bind && listens else {
    return .rejected(.commandNotSupported(command), at: consumed)
  }
  guard let destination else {
    return .rejected(.protocolViolation(.invalidName), at: consumed)
  }
  return Outcome(
    action: command == .connect ? .connect(destination) : .bind(destination), consumed: consumed)
}

private let logins = (try? Credentials(username: "u", password: "p")).map { Logins($0) }
