internal import Addressing
internal import DNS
internal import DataPlane
internal import LinuxIO

/// Looks a host name up past our own rules, by datagrams with our mark to the servers that this host asks: for
/// an upstream's name, where the system's look-ups would go through that upstream. Blocks.
struct DirectLookup {
  /// For each of the servers.
  private static let patience = Timeout.seconds(2)
  /// As `resolv.conf(5)` has it.
  private static let maximumServers = 3
  /// Record types (RFC 1035, section 3.2.2; RFC 3596, section 2.1).
  private static let kinds: [UInt16] = [28, 1]
  private static let internet: UInt16 = 1

  let mark: UInt32

  /// Empty if there is none, or nobody answers.
  func addresses(of name: HostName) -> [IPAddress] {
    let servers = NameServers.current()
    for server in (servers.asked + servers.askedByStub).prefix(Self.maximumServers) {
      if let found = ask(SocketAddress(server, 53), name) { return found }
    }
    return []
  }

  /// Nil if the server has not answered all.
  private func ask(_ server: SocketAddress, _ name: HostName) -> [IPAddress]? {
    let queries = Self.kinds.compactMap { Self.query(name, $0) }
    guard let socket = try? DatagramSocket.connect(to: server, .init(mark: mark)) else {
      return nil
    }
    for query in queries {
      _ = query.message.withUnsafeBytes { send(socket.rawValue, $0) }
    }
    var answers: [UInt16: [IPAddress]] = [:]
    let deadline = Instant.now() + Self.patience
    while answers.count < queries.count, socket.wait(for: .readable, until: deadline) {
      guard let answer = Self.receive(socket.rawValue),
        let query = queries.first(where: {
          $0.message.prefix(2) == answer.prefix(2) && $0.isAnswered(by: answer)
        })
      else { continue }
      answers[query.id] = NamedAddresses(answer.span)?.addresses.map(IPAddress.init) ?? []
    }
    guard answers.count == queries.count else { return nil }
    return queries.flatMap { answers[$0.id] ?? [] }
  }

  /// One question, recursion desired (RFC 1035, section 4.1); nil of a name that is none of DNS.
  private static func query(_ name: HostName, _ kind: UInt16) -> Query? {
    var message = System.randomBytes(2) + [1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    for label in name.text.split(separator: ".") {
      guard (1...63).contains(label.utf8.count) else { return nil }
      message.append(UInt8(label.utf8.count))
      message += Array(label.utf8)
    }
    message += [0, UInt8(kind >> 8), UInt8(kind & 0xFF), UInt8(internet >> 8), UInt8(internet)]
    return Query(message)
  }

  private static func receive(_ socket: Int32) -> [UInt8]? {
    withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 16) { room in
      guard case .bytes(let count) = LinuxIO.receive(socket, into: room) else { return nil }
      return Array(room[..<count])
    }
  }
}

extension IPAddress {
  fileprivate init(_ address: NamedAddresses.Address) {
    switch address {
    case .v4(let bits): self = .v4(IPv4Address(bits: bits))
    case .v6(let high, let low): self = .v6(IPv6Address(high: high, low: low))
    }
  }
}
