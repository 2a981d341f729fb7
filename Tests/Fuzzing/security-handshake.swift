internal import Addressing
internal import SOCKS

/// The first byte says what the client accepts: its lowest two bits the best level, 4 another one too, 8
/// credentials. The others are what a server sends, in pieces. A token of the context's begins with a
/// byte that says what the library makes of it. Single bytes come to the same as the pieces.
func fuzz(_ input: Span<UInt8>) {
  guard !input.isEmpty else { return }
  let level = ProtectionLevel(rawValue: input[0] & 3) ?? .integrity
  let start = Client(
    SecurityOffer(
      service: "rcmd@proxy.example",
      levels: input[0] & 4 == 0 ? [level] : [level, .confidentiality],
      credentials: input[0] & 8 == 0 ? nil : try? Credentials(username: "u", password: "p")))
  let pieces = pieces(of: input, from: 1)
  var client = start
  for piece in pieces { client.receive(input.extracting(piece)) }
  var other = start
  for index in 1..<(pieces.last?.upperBound ?? 1) {
    other.receive(input.extracting(index..<(index + 1)))
  }
  precondition(client.isSame(as: other), "the pieces make a difference")
  client.end()
}

private struct Client {
  private var machine: SecurityHandshake
  private let offer: SecurityOffer
  private var sent: [UInt8] = []
  private var consumed = 0
  private var action = ClientHandshake.Action.receive

  init(_ offer: SecurityOffer) {
    self.offer = offer
    machine = SecurityHandshake(
      destination: .address(SocketAddress(.v4(IPv4Address(bits: 1)), 80)), offer)
    machine.start(into: &sent)
  }

  mutating func receive(_ piece: Span<UInt8>) {
    let (earlier, sentBefore) = (action, sent.count)
    var (taken, next) = machine.receive(piece, Mechanism(), into: &sent)
    while next == .step {
      machine.handleStep(Mechanism().step(machine.token), Mechanism(), into: &sent)
      let (more, other) = machine.receive(piece.extracting(taken...), Mechanism(), into: &sent)
      (taken, next) = (taken + more, other)
    }
    action = next
    consumed += taken
    precondition((0...piece.count).contains(taken), "took bytes that are not there")
    precondition(action != .receive || taken == piece.count, "left bytes and asked for more")
    precondition(
      earlier == .receive || action == earlier && taken == 0 && sent.count == sentBefore,
      "went on after its end")
    precondition(
      machine.level == .none || offer.levels.contains(machine.level), "took a level not offered")
    precondition(machine.rest.isEmpty || action == .established, "has bytes but no connection")
  }

  /// Whether it ended as one did that was given single bytes. It has it as a violation if a piece goes on
  /// behind a message that it has to answer first, which no single byte does.
  func isSame(as other: Client) -> Bool {
    if action == .failed(.protocolViolation(.trailingBytes)) {
      return consumed <= other.consumed && other.sent.starts(with: sent)
    }
    return action == other.action && consumed == other.consumed && sent == other.sent
      && machine.level == other.machine.level && machine.rest == other.machine.rest
      && machine.boundAddress == other.machine.boundAddress
      && machine.boundPort == other.machine.boundPort
  }

  /// The server closes; what comes then of an established connection is not the machine's business.
  mutating func end() {
    guard action != .established else { return }
    let failure = machine.receiveEnd()
    precondition(action == .receive || action == .failed(failure), "failed in another way")
    action = .failed(failure)
    receive([1, 1, 0, 0].span)
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
