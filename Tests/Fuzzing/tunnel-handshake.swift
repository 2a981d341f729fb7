internal import Addressing
internal import SOCKS

/// The first byte is how much of a response that precedes the proxy's is there already, in units of 32
/// bytes: so that the end of what a response may have is near. The others are what the proxy sends, in
/// pieces, which may make no difference; what comes of it is what a model finds that sees all at once.
func fuzz(_ input: Span<UInt8>) {
  guard !input.isEmpty, var start = Client(tunnel) else { return }
  let before = Int(input[0]) * 32
  if before > 0 {
    var informational = Array("HTTP/1.1 103\nX:".utf8)
    while informational.count < before - 2 { informational.append(UInt8(ascii: "x")) }
    informational += Array("\n\n".utf8)
    start.receive(informational.span)
  }
  let pieces = pieces(of: input, from: 1)
  var client = start
  client.receive(pieces, of: input)
  let stream = (1..<(pieces.last?.upperBound ?? 1)).map { input[$0] }
  let expected = outcome(of: stream, room: TunnelHandshake.maximumResponseBytes - before)
  precondition(client.progress.action == expected.action, "ends in another way than its model")
  precondition(
    client.progress.consumed - start.progress.consumed == expected.consumed, "takes other bytes")
  client.end(before: Array("HTTP/1.1 200\n\n".utf8))
}

/// A machine that has been started.
private struct Client: FuzzedClient {
  private var machine: TunnelHandshake
  var progress = ClientProgress()

  /// Starts the machine; it traps if what it sends exceeds `maximumOutputBytes`.
  init?(_ machine: TunnelHandshake?) {
    guard var machine else { return nil }
    var sent: [UInt8] = []
    sent.append(addingCapacity: TunnelHandshake.maximumOutputBytes) { machine.start(into: &$0) }
    self.machine = machine
  }

  mutating func take(_ piece: Span<UInt8>) -> (consumed: Int, action: ClientHandshake.Action) {
    let (taken, action) = machine.receive(piece)
    precondition(
      progress.consumed + taken <= TunnelHandshake.maximumResponseBytes,
      "took more than a response may have")
    return (taken, action)
  }

  mutating func takeEnd() -> HandshakeFailure { machine.receiveEnd() }
}

private typealias Outcome = (action: ClientHandshake.Action, consumed: Int)

/// What comes of a proxy's bytes where no more than `room` of them may be there before the tunnel.
private func outcome(of bytes: [UInt8], room: Int) -> Outcome {
  let unbounded = outcome(of: bytes)
  guard unbounded.consumed > room else { return unbounded }
  return (.failed(.protocolViolation(.responseTooLong)), room)
}

private func outcome(of bytes: [UInt8]) -> Outcome {
  let (zero, nine) = (UInt8(ascii: "0"), UInt8(ascii: "9"))
  var at = 0
  while true {
    let status = bytes[at...].prefix(13)
    for (index, byte) in status.enumerated() {
      let fits =
        switch index {
        case 7, 9, 10, 11: (zero...nine).contains(byte)
        case 12: [0x20, 0x0D, 0x0A].contains(byte)
        default: byte == Array("HTTP/1.x ".utf8)[index]
        }
      if !fits { return (.failed(.protocolViolation(.notHTTP(byte))), at + index + 1) }
    }
    guard status.count == 13 else { return (.receive, bytes.count) }
    let code = status[(at + 9)...].prefix(3).reduce(0) { $0 * 10 + UInt16($1 - zero) }
    guard code / 100 == 1 || code / 100 == 2 else {
      return (.failed(.refusedByHTTP(HTTPStatus(code))), at + 13)
    }
    // The line feed behind which there is another one, but for carriage returns.
    let ends = bytes.indices.filter { $0 >= at + 12 && bytes[$0] == 0x0A }
    let last = zip(ends, ends.dropFirst()).first { former, next in
      bytes[(former + 1)..<next].allSatisfy { $0 == 0x0D }
    }
    guard let last else { return (.receive, bytes.count) }
    at = last.1 + 1
    if code / 100 == 2 { return (.established, at) }
  }
}

private let tunnel: TunnelHandshake? = {
  guard let name = HostName(String(repeating: "n", count: 255)) else { return nil }
  return try? TunnelHandshake(
    destination: .name(name, port: 65535),
    credentials: Credentials(
      username: String(repeating: "u", count: 255), password: String(repeating: "p", count: 255)))
}()
