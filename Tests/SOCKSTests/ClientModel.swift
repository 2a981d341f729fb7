import Addressing
import SOCKS

/// The client of RFC 1928 and RFC 1929 written a second time, the slow and plain way: it looks at all
/// bytes of the server at once, and knows where the pieces ended in which they came.
struct ClientModel {
  let destination: Endpoint
  let login: (username: [UInt8], password: [UInt8])?
  let mode: ClientHandshake.Mode

  func outcome(pieces: [[UInt8]]) -> ClientOutcome {
    var run = Run(bytes: Array(pieces.joined()))
    for piece in pieces { run.pieceEnds.append((run.pieceEnds.last ?? 0) + piece.count) }
    do throws(Stop) {
      try handshake(&run)
      return ClientOutcome(
        action: .established, sent: run.sent, boundAddress: run.boundAddress,
        rest: Array(run.bytes[run.offset...]))
    } catch {
      switch error {
      case .needsMore: return ClientOutcome(action: .receive, sent: run.sent)
      case .failed(let failure): return ClientOutcome(action: .failed(failure), sent: run.sent)
      }
    }
  }

  private enum Stop: Error {
    case needsMore
    case failed(HandshakeFailure)
  }

  private struct Run {
    let bytes: [UInt8]
    var pieceEnds: [Int] = []
    var offset = 0
    var sent: [UInt8] = []
    var boundAddress: Endpoint?

    mutating func byte() throws(Stop) -> UInt8 {
      guard offset < bytes.count else { throw .needsMore }
      offset += 1
      return bytes[offset - 1]
    }

    mutating func bytes(_ count: Int) throws(Stop) -> [UInt8] {
      var taken: [UInt8] = []
      for _ in 0..<count { taken.append(try byte()) }
      return taken
    }

    mutating func expect(_ expected: UInt8, else violation: (UInt8) -> Violation) throws(Stop) {
      let byte = try byte()
      if byte != expected { throw .failed(.protocolViolation(violation(byte))) }
    }

    /// Sends what answers the bytes so far; the server cannot have said more before it.
    mutating func answer(_ message: [UInt8], _ mode: ClientHandshake.Mode) throws(Stop) {
      guard mode == .stepwise else { return }
      guard pieceEnds.contains(offset) else { throw .failed(.protocolViolation(.trailingBytes)) }
      sent += message
    }
  }

  private var methods: [UInt8] {
    switch (login == nil, mode) {
    case (true, _): [0]
    case (false, .stepwise): [0, 2]
    case (false, .pipelined), (false, .admitted): [2]
    }
  }

  private var authentication: [UInt8] {
    guard let login else { return [] }
    return [1, UInt8(login.username.count)] + login.username
      + [UInt8(login.password.count)] + login.password
  }

  private var request: [UInt8] {
    let address: [UInt8]
    switch destination {
    case .address(let socket):
      address = [socket.address.isIPv4 ? 1 : 4] + socket.address.bytes
    case .name(let name, _):
      address = [3, UInt8(name.text.utf8.count)] + Array(name.text.utf8)
    }
    return [5, 1, 0] + address + [UInt8(destination.port / 256), UInt8(destination.port % 256)]
  }

  private func handshake(_ run: inout Run) throws(Stop) {
    guard mode != .admitted else {
      run.sent = request
      try reply(&run)
      return
    }
    run.sent = [5, UInt8(methods.count)] + methods
    if mode == .pipelined { run.sent += authentication + request }

    try run.expect(5) { .wrongVersion($0) }
    let method = try run.byte()
    if method == 0xFF { throw .failed(.noAcceptableMethod) }
    guard methods.contains(method) else {
      throw .failed(.protocolViolation(.methodNeverOffered(Method(rawValue: method))))
    }
    if method == 2 {
      try run.answer(authentication, mode)
      try run.expect(1) { .wrongAuthenticationVersion($0) }
      let status = try run.byte()
      if status != 0 { throw .failed(.authenticationRejected(status: status)) }
    }
    try run.answer(request, mode)
    try reply(&run)
  }

  private func reply(_ run: inout Run) throws(Stop) {
    try run.expect(5) { .wrongVersion($0) }
    let code = try run.byte()
    if code != 0 { throw .failed(.refused(ReplyCode(rawValue: code))) }
    _ = try run.byte()
    run.boundAddress = try address(&run)
  }

  private func address(_ run: inout Run) throws(Stop) -> Endpoint? {
    let type = try run.byte()
    let text: String
    switch type {
    case 1:
      text = try run.bytes(4).map { String($0) }.joined(separator: ".")
    case 4:
      let bytes = try run.bytes(16)
      let groups = stride(from: 0, to: 16, by: 2).map { Int(bytes[$0]) * 256 + Int(bytes[$0 + 1]) }
      text = "[" + groups.map { String($0, radix: 16) }.joined(separator: ":") + "]"
    case 3:
      let name = try run.bytes(Int(try run.byte()))
      let port = try port(&run)
      return String(validating: name, as: UTF8.self).flatMap { HostName($0) }
        .map { .name($0, port: port) }
    default:
      throw .failed(.protocolViolation(.unknownAddressType(type)))
    }
    return Endpoint("\(text):\(try port(&run))")
  }

  private func port(_ run: inout Run) throws(Stop) -> UInt16 {
    let bytes = try run.bytes(2)
    return UInt16(bytes[0]) * 256 + UInt16(bytes[1])
  }
}
