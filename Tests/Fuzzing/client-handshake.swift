internal import Addressing
internal import SOCKS

/// The first byte says what the client wants: 1 credentials, 2 pipelined, 4 a name for destination.
/// The others are what a server sends, in pieces; single bytes come to the same.
func fuzz(_ input: Span<UInt8>) {
  guard !input.isEmpty else { return }
  let mode: ClientHandshake.Mode = input[0] & 2 == 0 ? .stepwise : .pipelined
  let start = Client(
    ClientHandshake(
      destination: input[0] & 4 == 0 ? longestAddress : longestName,
      credentials: input[0] & 1 == 0 ? nil : longestCredentials, mode: mode))

  let pieces = pieces(of: input, from: 1)
  var client = start
  for piece in pieces { client.receive(input.extracting(piece)) }
  var other = start
  for index in 1..<(pieces.last?.upperBound ?? 1) {
    other.receive(input.extracting(index..<(index + 1)))
  }
  precondition(client.isSame(as: other, mode), "the pieces make a difference")
  client.end()
}

/// A machine with what came of it. It traps if all that it sends exceeds `maximumOutputBytes`.
private struct Client {
  private var machine: ClientHandshake
  private var sent: [UInt8] = []
  private var consumed = 0
  private var action = ClientHandshake.Action.receive

  init(_ machine: ClientHandshake) {
    self.machine = machine
    sent.append(addingCapacity: ClientHandshake.maximumOutputBytes) {
      self.machine.start(into: &$0)
    }
  }

  mutating func receive(_ piece: Span<UInt8>) {
    let (earlier, sentBefore) = (action, sent.count)
    var taken = 0
    sent.append(addingCapacity: ClientHandshake.maximumOutputBytes - sent.count) {
      (taken, action) = machine.receive(piece, into: &$0)
    }
    precondition((0...piece.count).contains(taken), "took bytes that are not there")
    precondition(action != .receive || taken == piece.count, "left bytes and asked for more")
    consumed += taken
    precondition(
      earlier == .receive || action == earlier && taken == 0 && sent.count == sentBefore,
      "went on after its end")
    precondition(
      machine.boundAddress == nil || action == .established, "bound but not established")
  }

  /// Whether it ended as one did that was given single bytes. A stepwise client has it as a violation if a
  /// piece goes on behind a message that it has to answer first, which no single byte does.
  func isSame(as other: Client, _ mode: ClientHandshake.Mode) -> Bool {
    if mode == .stepwise, action == .failed(.protocolViolation(.trailingBytes)) {
      return consumed <= other.consumed && other.sent.starts(with: sent)
    }
    return action == other.action && consumed == other.consumed && sent == other.sent
      && machine.boundAddress == other.machine.boundAddress
  }

  /// The server closes; what comes then of an established connection is not the machine's business.
  mutating func end() {
    guard action != .established else { return }
    let failure = machine.receiveEnd()
    precondition(action == .receive || action == .failed(failure), "failed in another way")
    action = .failed(failure)
    receive([5, 0, 0].span)
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
