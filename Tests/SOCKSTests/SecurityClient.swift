import Addressing
import SOCKS

/// A security mechanism as simple as can be: a token is a letter, `C` for what nobody else may read and
/// `I` for the rest, and the bytes. A context takes AA from us and BB from the server, or more turns by
/// CC and DD before that.
struct PlainProtection: MessageProtection {
  func wrap(_ bytes: [UInt8], confidentially: Bool) throws(SecurityFailure) -> [UInt8] {
    [UInt8(ascii: confidentially ? "C" : "I")] + bytes
  }

  func unwrap(
    _ token: [UInt8]
  ) throws(SecurityFailure) -> (bytes: [UInt8], isConfidential: Bool) {
    switch token.first {
    case UInt8(ascii: "C"): return (Array(token.dropFirst()), true)
    case UInt8(ascii: "I"): return (Array(token.dropFirst()), false)
    default: throw SecurityFailure("not genuine")
    }
  }

  func step(_ token: [UInt8]) -> Result<SecurityStep, SecurityFailure> {
    switch token {
    case []: .success(SecurityStep(token: [0xAA], isComplete: false))
    case [0xBB]: .success(SecurityStep(token: [], isComplete: true))
    case [0xCC]: .success(SecurityStep(token: [0xDD], isComplete: false))
    case [0xEE]: .success(SecurityStep(token: [0xFF], isComplete: true))
    case [0x00]: .success(SecurityStep(token: [], isComplete: false))
    default: .failure(SecurityFailure("no such server"))
    }
  }
}

/// The machine with all that it has written; it is given every step that it asks for at once.
struct SecurityClient {
  let protection = PlainProtection()
  private(set) var machine: SecurityHandshake
  private(set) var sent: [UInt8] = []

  init(
    _ command: Command = .connect, to destination: Endpoint, _ levels: [ProtectionLevel],
    _ credentials: Credentials? = nil
  ) {
    machine = SecurityHandshake(
      command, destination: destination,
      SecurityOffer(service: "rcmd@proxy.example", levels: levels, credentials: credentials))
    machine.start(into: &sent)
  }

  mutating func receive(_ piece: [UInt8]) -> (consumed: Int, action: ClientHandshake.Action) {
    var (consumed, action) = machine.receive(piece.span, protection, into: &sent)
    while action == .step {
      machine.handleStep(protection.step(machine.token), protection, into: &sent)
      let rest = Array(piece[consumed...])
      let (more, next) = machine.receive(rest.span, protection, into: &sent)
      (consumed, action) = (consumed + more, next)
    }
    return (consumed, action)
  }
}

/// What came of feeding the machine with some bytes.
struct SecurityOutcome: Hashable {
  var action: ClientHandshake.Action
  var sent: [UInt8]
  var level: ProtectionLevel
  var boundAddress: Endpoint?
  /// For the application: out of the message with the reply, and behind it.
  var rest: [UInt8] = []
  var behind: [UInt8] = []
}

/// Feeds the pieces one after the other, until the machine ends or there are no more.
func outcome(of start: SecurityClient, pieces: [[UInt8]]) -> SecurityOutcome {
  var client = start
  var action = ClientHandshake.Action.receive
  var behind: [UInt8] = []
  for (index, piece) in pieces.enumerated() {
    let consumed: Int
    (consumed, action) = client.receive(piece)
    precondition((0...piece.count).contains(consumed), "took bytes that are not there")
    precondition(action != .receive || consumed == piece.count, "left bytes and asked for more")
    guard action != .receive else { continue }
    let again = client.receive([5, 1, 0])
    precondition(again == (0, action), "did not repeat how it ended")
    if action == .established { behind = Array(pieces[index...].joined().dropFirst(consumed)) }
    break
  }
  return SecurityOutcome(
    action: action, sent: client.sent, level: client.machine.level,
    boundAddress: client.machine.boundAddress, rest: client.machine.rest, behind: behind)
}
