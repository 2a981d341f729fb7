internal import SOCKS

/// The first byte says whether the client has credentials. The others are what a server sends, in pieces.
func fuzz(_ input: Span<UInt8>) {
  guard !input.isEmpty else { return }
  let start = Client(credentials: input[0] & 1 == 0 ? nil : longestCredentials)
  let pieces = pieces(of: input, from: 1)

  var client = start
  for piece in pieces { client.receive(input.extracting(piece)) }
  var other = start
  if let first = pieces.first, let last = pieces.last {
    for index in first.lowerBound..<last.upperBound {
      other.receive(input.extracting(index..<(index + 1)))
    }
  }
  // A piece may go on behind a message that has to be answered first, which no single byte does.
  precondition(
    client.hasSameEnd(as: other)
      || client.action == .failed(.protocolViolation(.trailingBytes))
        && other.sent.starts(with: client.sent),
    "the pieces make a difference")
}

/// An admission that has been started. It traps if a step sends more than `maximumOutputBytes`.
private struct Client {
  private var machine: Admission
  private(set) var sent: [UInt8] = []
  private(set) var action = Admission.Action.receive

  init(credentials: Credentials?) {
    machine = Admission(credentials: credentials)
    sent.append(addingCapacity: Admission.maximumOutputBytes) { machine.start(into: &$0) }
  }

  mutating func receive(_ piece: Span<UInt8>) {
    guard !piece.isEmpty else { return }
    let before = (sent: sent.count, action: action)
    sent.append(addingCapacity: Admission.maximumOutputBytes) {
      action = machine.receive(piece, into: &$0)
    }
    switch before.action {
    case .receive: break
    case .admitted:
      precondition(
        action == .failed(.protocolViolation(.trailingBytes)), "took what it had not asked for")
    case .failed: precondition(action == before.action, "went on after its end")
    }
    precondition(
      action == .receive || sent.count == before.sent
        || action == .failed(.protocolViolation(.trailingBytes)), "sent at its end")
  }

  func hasSameEnd(as other: Client) -> Bool { action == other.action && sent == other.sent }
}

private let longestCredentials = try? Credentials(
  username: String(repeating: "u", count: 255), password: String(repeating: "p", count: 255))
