internal import Addressing
internal import SOCKS

/// The first byte says what the client wants: 1 credentials, 2 pipelined, 4 a name for destination, 8 to
/// have the server listen (BIND). The others are what a server sends, in pieces; single bytes come to the
/// same.
func fuzz(_ input: Span<UInt8>) {
  guard !input.isEmpty else { return }
  let mode: ClientHandshake.Mode = input[0] & 2 == 0 ? .stepwise : .pipelined
  let command: Command = input[0] & 8 == 0 ? .connect : .bind
  let start = Client(
    ClientHandshake(
      command, destination: input[0] & 4 == 0 ? longestAddress : longestName,
      credentials: input[0] & 1 == 0 ? nil : longestCredentials, mode: mode))

  let pieces = pieces(of: input, from: 1)
  var client = start
  client.receive(pieces, of: input)
  client.check(command)
  var other = start
  other.receiveBytes(of: pieces, of: input)
  precondition(client.isSame(as: other, mode), "the pieces make a difference")
  client.end(before: [5, 0, 0])
}

/// A machine that has been started. It traps if all that it sends exceeds `maximumOutputBytes`.
private struct Client: FuzzedClient {
  private var machine: ClientHandshake
  private var sent: [UInt8] = []
  var progress = ClientProgress()

  init(_ machine: ClientHandshake) {
    self.machine = machine
    sent.append(addingCapacity: ClientHandshake.maximumOutputBytes) {
      self.machine.start(into: &$0)
    }
  }

  mutating func take(_ piece: Span<UInt8>) -> (consumed: Int, action: ClientHandshake.Action) {
    var result = (consumed: 0, action: ClientHandshake.Action.receive)
    sent.append(addingCapacity: ClientHandshake.maximumOutputBytes - sent.count) {
      result = machine.receive(piece, into: &$0)
    }
    return result
  }

  mutating func takeEnd() -> HandshakeFailure { machine.receiveEnd() }

  /// What the machine says of the server's side has been told to it.
  func check(_ command: Command) {
    let isEstablished = progress.action == .established
    precondition(progress.isListening ? command == .bind : command != .bind || !isEstablished)
    precondition(
      machine.boundAddress == nil || isEstablished || progress.isListening,
      "bound but not established")
    precondition(machine.peer == nil || isEstablished && command == .bind, "nobody has come")
  }

  /// Whether it ended as one did that was given single bytes. A stepwise client has it as a violation if a
  /// piece goes on behind a message that it has to answer first, which no single byte does.
  func isSame(as other: Client, _ mode: ClientHandshake.Mode) -> Bool {
    if mode == .stepwise, progress.action == .failed(.protocolViolation(.trailingBytes)) {
      return progress.consumed <= other.progress.consumed && other.sent.starts(with: sent)
    }
    return progress == other.progress && sent == other.sent
      && machine.boundAddress == other.machine.boundAddress
      && machine.boundPort == other.machine.boundPort && machine.peer == other.machine.peer
  }
}

private let longestAddress = Endpoint.address(
  SocketAddress(.v6(IPv6Address(high: 0x2001_0DB8_0000_0000, low: 1)), 443))

private let longestName: Endpoint = {
  guard let name = HostName(String(repeating: "n", count: 255)) else {
    preconditionFailure("a name of 255 bytes is one")
  }
  return .name(name, port: 443)
}()

private let longestCredentials = try? Credentials(
  username: String(repeating: "u", count: 255), password: String(repeating: "p", count: 255))
