import Addressing
import SOCKS

/// A client machine with all that it has written since its start. Writing more than
/// `maximumOutputBytes` in a whole handshake traps.
struct Client {
  private var machine: ClientHandshake
  private(set) var sent: [UInt8] = []

  init(
    _ command: Command = .connect, to destination: Endpoint, _ credentials: Credentials?,
    _ mode: ClientHandshake.Mode
  ) {
    var machine = ClientHandshake(
      command, destination: destination, credentials: credentials, mode: mode)
    sent.append(addingCapacity: ClientHandshake.maximumOutputBytes) { machine.start(into: &$0) }
    self.machine = machine
  }

  var boundAddress: Endpoint? { machine.boundAddress }
  var boundPort: UInt16 { machine.boundPort }
  var peer: Endpoint? { machine.peer }

  mutating func receive(_ piece: [UInt8]) -> (consumed: Int, action: ClientHandshake.Action) {
    var result = (consumed: 0, action: ClientHandshake.Action.receive)
    sent.append(addingCapacity: ClientHandshake.maximumOutputBytes - sent.count) {
      result = machine.receive(piece.span, into: &$0)
    }
    return result
  }

  mutating func receiveEnd() -> HandshakeFailure { machine.receiveEnd() }
}

/// A server machine with all that it has written.
struct Server {
  private var machine: ServerHandshake
  private(set) var sent: [UInt8] = []

  init(_ credentials: Credentials?, relaysDatagrams: Bool = false, listens: Bool = false) {
    self.init(
      logins: credentials.map { Logins($0) }, relaysDatagrams: relaysDatagrams, listens: listens)
  }

  init(logins: Logins?, relaysDatagrams: Bool = false, listens: Bool = false) {
    machine = ServerHandshake(
      logins: logins, relaysDatagrams: relaysDatagrams, listens: listens)
  }

  var rejection: Rejection? { machine.rejection }

  mutating func receive(_ piece: [UInt8]) -> (consumed: Int, action: ServerHandshake.Action) {
    var result = (consumed: 0, action: ServerHandshake.Action.receive)
    sent.append(addingCapacity: ServerHandshake.maximumOutputBytes - sent.count) {
      result = machine.receive(piece.span, into: &$0)
    }
    return result
  }

  mutating func reply(_ code: ReplyCode, bound: SocketAddress) {
    sent.append(addingCapacity: ServerHandshake.maximumOutputBytes - sent.count) {
      machine.reply(code, bound: bound, into: &$0)
    }
  }
}

// MARK: Outcomes

/// What came of feeding a client with some bytes.
struct ClientOutcome: Hashable {
  var action: ClientHandshake.Action
  var sent: [UInt8]
  var boundAddress: Endpoint?
  /// What an established connection leaves to the application.
  var rest: [UInt8] = []
}

/// What came of feeding a server with some bytes.
struct ServerOutcome: Hashable {
  var action: ServerHandshake.Action
  var sent: [UInt8]
  var rejection: Rejection?
  /// What follows an accepted request.
  var rest: [UInt8] = []
}

/// Feeds the pieces one after the other, until the machine ends or there are no more.
func outcome(of start: Client, pieces: [[UInt8]]) -> ClientOutcome {
  var client = start
  for (index, piece) in pieces.enumerated() {
    let (consumed, action) = client.receive(piece)
    precondition((0...piece.count).contains(consumed), "took bytes that are not there")
    precondition(action != .receive || consumed == piece.count, "left bytes and asked for more")
    guard action != .receive else { continue }
    let again = client.receive([5, 0, 0])
    precondition(again == (0, action), "did not repeat how it ended")
    let rest = action == .established ? Array(pieces[index...].joined().dropFirst(consumed)) : []
    return ClientOutcome(
      action: action, sent: client.sent, boundAddress: client.boundAddress, rest: rest)
  }
  return ClientOutcome(action: .receive, sent: client.sent, boundAddress: client.boundAddress)
}

/// Feeds the pieces one after the other, until the machine ends or there are no more.
func outcome(of start: Server, pieces: [[UInt8]]) -> ServerOutcome {
  var server = start
  for (index, piece) in pieces.enumerated() {
    let (consumed, action) = server.receive(piece)
    precondition((0...piece.count).contains(consumed), "took bytes that are not there")
    precondition(action != .receive || consumed == piece.count, "left bytes and asked for more")
    guard action != .receive else { continue }
    let again = server.receive([5, 1, 0])
    precondition(again == (0, action), "did not repeat how it ended")
    precondition((action == .reject) == (server.rejection != nil), "rejected without a reason")
    let rest = action == .reject ? [] : Array(pieces[index...].joined().dropFirst(consumed))
    return ServerOutcome(
      action: action, sent: server.sent, rejection: server.rejection, rest: rest)
  }
  return ServerOutcome(action: .receive, sent: server.sent, rejection: server.rejection)
}
