internal import Addressing
internal import SOCKS

/// The first byte says what the client accepts: its lowest two bits the best level, 4 another one too, 8
/// credentials, 16 to have the server listen (BIND). The others are what a server sends, in pieces. A token
/// of the context's begins with a byte that says what the library makes of it. Single bytes come to the same
/// as the pieces.
func fuzz(_ input: Span<UInt8>) {
  guard !input.isEmpty, let level = ProtectionLevel(rawValue: input[0] & 3) else { return }
  let command: Command = input[0] & 16 == 0 ? .connect : .bind
  let start = Client(
    command,
    SecurityOffer(
      service: "rcmd@proxy.example",
      levels: input[0] & 4 == 0 ? [level] : [level, .confidentiality],
      credentials: input[0] & 8 == 0 ? nil : try? Credentials(username: "u", password: "p")))
  let pieces = pieces(of: input, from: 1)
  var client = start
  client.receive(pieces, of: input)
  client.check(command)
  var other = start
  other.receiveBytes(of: pieces, of: input)
  precondition(client.isSame(as: other), "the pieces make a difference")
  client.end(before: [1, 1, 0, 0])
}

/// A machine that has been started; each step that it asks for is made at once.
private struct Client: FuzzedClient {
  private var machine: SecurityHandshake
  private let offer: SecurityOffer
  private var sent: [UInt8] = []
  var progress = ClientProgress()

  init(_ command: Command, _ offer: SecurityOffer) {
    self.offer = offer
    machine = SecurityHandshake(
      command, destination: .address(SocketAddress(.v4(IPv4Address(bits: 1)), 80)), offer)
    machine.start(into: &sent)
  }

  mutating func take(_ piece: Span<UInt8>) -> (consumed: Int, action: ClientHandshake.Action) {
    var (taken, action) = machine.receive(piece, Mechanism(), into: &sent)
    while action == .step {
      machine.handleStep(Mechanism().step(machine.token), Mechanism(), into: &sent)
      let (more, next) = machine.receive(piece.extracting(taken...), Mechanism(), into: &sent)
      (taken, action) = (taken + more, next)
    }
    return (taken, action)
  }

  mutating func takeEnd() -> HandshakeFailure { machine.receiveEnd() }

  /// Only what was offered and told is the case.
  func check(_ command: Command) {
    let isEstablished = progress.action == .established
    precondition(
      machine.level == .none || offer.levels.contains(machine.level), "took a level not offered")
    precondition(machine.rest.isEmpty || isEstablished, "has bytes but no connection")
    precondition(progress.isListening ? command == .bind : command != .bind || !isEstablished)
    precondition(machine.peer == nil || isEstablished && command == .bind, "nobody has come")
  }

  /// Whether it ended as one did that was given single bytes. It has it as a violation if a piece goes on
  /// behind a message that it has to answer first, which no single byte does.
  func isSame(as other: Client) -> Bool {
    if progress.action == .failed(.protocolViolation(.trailingBytes)) {
      return progress.consumed <= other.progress.consumed && other.sent.starts(with: sent)
    }
    return progress == other.progress && sent == other.sent
      && machine.level == other.machine.level && machine.rest == other.machine.rest
      && machine.boundAddress == other.machine.boundAddress
      && machine.boundPort == other.machine.boundPort && machine.peer == other.machine.peer
  }
}

/// Tokens are the bytes behind a byte that says whether they are genuine, and confidential.
private struct Mechanism: MessageProtection {
  func wrap(_ bytes: [UInt8], confidentially: Bool) throws(SecurityFailure) -> [UInt8] {
    [confidentially ? 2 : 1] + bytes
  }

  func unwrap(
    _ token: [UInt8]
  ) throws(SecurityFailure) -> (bytes: [UInt8], isConfidential: Bool) {
    guard let kind = token.first, kind == 1 || kind == 2 else { throw SecurityFailure("forged") }
    return (Array(token.dropFirst()), kind == 2)
  }

  func step(_ token: [UInt8]) -> Result<SecurityStep, SecurityFailure> {
    switch token.first {
    case nil: .success(SecurityStep(token: [1], isComplete: false))
    case 0: .success(SecurityStep(token: [], isComplete: true))
    case 1: .success(SecurityStep(token: [2], isComplete: true))
    case 2: .success(SecurityStep(token: token, isComplete: false))
    default: .failure(SecurityFailure("no"))
    }
  }
}
