internal import Addressing
internal import Configuration

/// Which flows are meant, as `KEY=VALUE`.
struct FlowFilter: Hashable {
  enum Key: String, CaseIterable {
    case `protocol`, stage, scope, client, destination, port, name, upstream, rule, program, pid,
      uid

    /// Finding out who has a socket takes the most.
    var concernsProgram: Bool { self == .program || self == .pid || self == .uid }
  }

  private enum Value: Hashable {
    case text(String)
    /// An address or block, and a port with it if one is given.
    case addresses(CIDR, port: UInt16?)
    case number(UInt32)
  }

  let key: Key
  private let value: Value

  /// - Parameter text: as it is written.
  init(_ text: String) throws(ConfigurationError) {
    let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, let key = Key(rawValue: String(parts[0])) else {
      let keys = Key.allCases.map(\.rawValue).joined(separator: ", ")
      throw ConfigurationError("--filter \(text): expected KEY=VALUE, with one of the keys \(keys)")
    }
    self.key = key
    guard let value = Self.value(String(parts[1]), key) else {
      throw ConfigurationError("--filter \(text): expected \(key.expected)")
    }
    self.value = value
  }

  private static func value(_ text: String, _ key: Key) -> Value? {
    switch key {
    case .protocol, .stage, .scope, .upstream, .rule, .program:
      return text.isEmpty ? nil : .text(text)
    case .name: return text.isEmpty ? nil : .text(text.lowercased())
    case .client, .destination:
      if let block = CIDR(text) { return .addresses(block, port: nil) }
      guard let address = SocketAddress(text), let block = CIDR("\(address.address)") else {
        return nil
      }
      return .addresses(block, port: address.port)
    case .port: return UInt16(text).map { .number(UInt32($0)) }
    case .pid, .uid: return UInt32(text).map { .number($0) }
    }
  }

  func matches(_ flow: FlowStatus) -> Bool {
    switch key {
    case .protocol: matches(text: flow.protocol)
    case .stage: matches(text: flow.stage)
    case .scope: matches(text: flow.scope?.rawValue)
    case .upstream: matches(text: flow.upstream)
    case .rule: matches(text: flow.rule)
    case .program: matches(text: flow.program?.name)
    case .name: matches(name: flow.name)
    case .client: matches(address: flow.client)
    case .destination: matches(address: flow.destination)
    case .port: matches(flow.destination.flatMap { Endpoint($0) }.map { UInt32($0.port) })
    case .pid: matches(flow.program?.pid.map { UInt32($0) })
    case .uid: matches(flow.program?.uid)
    }
  }

  private func matches(text: String?) -> Bool { text.map { value == .text($0) } ?? false }

  private func matches(_ number: UInt32?) -> Bool { number.map { value == .number($0) } ?? false }

  /// A name, and all below it.
  private func matches(name: String?) -> Bool {
    guard case .text(let wanted) = value, let name = name?.lowercased() else { return false }
    return name == wanted || name.hasSuffix(".\(wanted)")
  }

  private func matches(address text: String?) -> Bool {
    guard case .addresses(let block, let port) = value, let text,
      let address = SocketAddress(text)
    else { return false }
    return block.contains(address.address) && (port.map { $0 == address.port } ?? true)
  }
}

extension FlowFilter.Key {
  /// For people.
  fileprivate var expected: String {
    switch self {
    case .protocol: "tcp or udp"
    case .stage: "opening, open or half-closed"
    case .scope: "machine or gateway"
    case .client, .destination: "an address, a block, or an address and its port"
    case .port: "a port"
    case .name: "a host name"
    case .upstream: "an upstream as sluice status writes it"
    case .rule: "the name of a rule"
    case .program: "the name of a program"
    case .pid, .uid: "a number"
    }
  }
}

/// Which flows come first.
enum FlowOrder: String, CaseIterable {
  /// Those that have lasted longest.
  case age
  /// Those that have carried most.
  case bytes

  func precedes(_ one: FlowStatus, _ other: FlowStatus) -> Bool {
    switch self {
    case .age: one.age > other.age
    case .bytes: one.bytes > other.bytes
    }
  }
}

extension FlowStatus {
  /// Both ways.
  var bytes: UInt64 { sent &+ received }
}
