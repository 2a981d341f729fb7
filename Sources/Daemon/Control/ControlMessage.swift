internal import Addressing
internal import Configuration
internal import DataPlane
internal import FoundationEssentials

// What is said over the control socket: JSON, an object on each line. Whoever connects asks, and is
// answered once for each request.

/// A request: its kind stands under "request".
enum ControlRequest: Hashable {
  /// To carry what a program sends; `version` is that of this dialogue.
  case exec(version: Int)
  /// After that: begin. The sockets of `ConfinedTraffic.plane` come with it, in the order of
  /// `DataPlaneConfiguration.ingressSockets`.
  case serve(ConfinedTraffic, audit: Bool)
  /// After that, where an audit was wanted: end, and tell it.
  case end
  /// What the run says of itself; any number of times.
  case status
  /// Which flows there are, of those that `FlowFilter` lets through, in the order of `FlowOrder`.
  case flows(filters: [String], order: String)
  /// To end these flows, by their identifiers.
  case kill([String])
  /// To read the settings and lists again.
  case reload
  /// To capture nothing new, and to end when open flows have ended or `timeout` seconds have passed; nil:
  /// what the run has settled. The connection is closed then.
  case drain(timeout: UInt32?)

  static let execVersion = 1
}

enum ControlAnswer: Hashable {
  /// To `exec`.
  case service(ServiceDescription)
  /// To `serve`: it is carried from now on, until the connection ends.
  case serving
  /// To `end`.
  case audit(AuditReport)
  /// To `status`.
  case status(RunStatus)
  /// To `flows`.
  case flows(FlowList)
  /// To `kill`: those that were still there.
  case killed([String])
  /// To `drain`.
  case draining
  /// To `reload`.
  case reload(ReloadOutcome)
  /// To any request that cannot be granted, and the last on this connection: one line for people.
  case error(String)
}

/// What a program can have of a run.
struct ServiceDescription: Hashable {
  /// As people call it: without the password.
  var upstreams: UpstreamSelection
  var datagrams: Upstream.DatagramAbility
  var carriesIPv6: Bool
}

// MARK: Lines

/// A message that is a line.
protocol ControlMessage: Codable {}

extension ControlMessage {
  /// Nil for what is no such message.
  init?(line: [UInt8]) {
    guard let message = try? JSONDecoder().decode(Self.self, from: Data(line)) else { return nil }
    self = message
  }

  /// Without the end of the line.
  var line: [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      return Array(try encoder.encode(self))
    } catch {
      preconditionFailure("a message of text, numbers and words: \(error)")
    }
  }
}

extension ControlRequest: ControlMessage {
  private enum Key: String, CodingKey {
    case request, version, ipv6, datagrams, dns, resolver, audit, timeout, filters, sort, flows
  }
  private enum Kind: String, Codable { case exec, serve, end, status, drain, reload, flows, kill }

  init(from decoder: any Decoder) throws {
    let members = try decoder.container(keyedBy: Key.self)
    switch try members.decode(Kind.self, forKey: .request) {
    case .exec:
      self = .exec(version: try members.decode(Int.self, forKey: .version))
    case .serve:
      self = .serve(
        ConfinedTraffic(
          hasIPv6: try members.decode(Bool.self, forKey: .ipv6),
          includesDatagrams: try members.decode(Bool.self, forKey: .datagrams),
          dns: try members.decodeIfPresent(Configuration.DNS.self, forKey: .dns),
          resolver: try members.decodeTextIfPresent(SocketAddress.init, forKey: .resolver)),
        audit: try members.decodeIfPresent(Bool.self, forKey: .audit) ?? false)
    case .end: self = .end
    case .status: self = .status
    case .reload: self = .reload
    case .kill: self = .kill(try members.decode([String].self, forKey: .flows))
    case .flows:
      self = .flows(
        filters: try members.decodeIfPresent([String].self, forKey: .filters) ?? [],
        order: try members.decodeIfPresent(String.self, forKey: .sort) ?? FlowOrder.age.rawValue)
    case .drain:
      self = .drain(timeout: try members.decodeIfPresent(UInt32.self, forKey: .timeout))
    }
  }

  func encode(to encoder: any Encoder) throws {
    var members = encoder.container(keyedBy: Key.self)
    switch self {
    case .exec(let version):
      try members.encode(Kind.exec, forKey: .request)
      try members.encode(version, forKey: .version)
    case .serve(let traffic, let audit):
      try members.encode(Kind.serve, forKey: .request)
      try members.encode(traffic.hasIPv6, forKey: .ipv6)
      try members.encode(traffic.includesDatagrams, forKey: .datagrams)
      try members.encodeIfPresent(traffic.dns, forKey: .dns)
      try members.encodeIfPresent(traffic.resolver.map { "\($0)" }, forKey: .resolver)
      try members.encode(audit, forKey: .audit)
    case .end:
      try members.encode(Kind.end, forKey: .request)
    case .status:
      try members.encode(Kind.status, forKey: .request)
    case .reload:
      try members.encode(Kind.reload, forKey: .request)
    case .kill(let flows):
      try members.encode(Kind.kill, forKey: .request)
      try members.encode(flows, forKey: .flows)
    case .flows(let filters, let order):
      try members.encode(Kind.flows, forKey: .request)
      try members.encode(filters, forKey: .filters)
      try members.encode(order, forKey: .sort)
    case .drain(let timeout):
      try members.encode(Kind.drain, forKey: .request)
      try members.encodeIfPresent(timeout, forKey: .timeout)
    }
  }
}

extension ControlAnswer: ControlMessage {
  fileprivate enum Key: String, CodingKey {
    case error, status, draining, reload, serving, upstream, others, balance, datagrams, ipv6,
      destinations, omitted, flows, killed
  }

  init(from decoder: any Decoder) throws {
    let members = try decoder.container(keyedBy: Key.self)
    if let text = try members.decodeIfPresent(String.self, forKey: .error) {
      self = .error(text)
    } else if let status = try members.decodeIfPresent(RunStatus.self, forKey: .status) {
      self = .status(status)
    } else if try members.decodeIfPresent(Bool.self, forKey: .draining) == true {
      self = .draining
    } else if let outcome = try members.decodeIfPresent(ReloadOutcome.self, forKey: .reload) {
      self = .reload(outcome)
    } else if try members.decodeIfPresent(Bool.self, forKey: .serving) == true {
      self = .serving
    } else if let flows = try members.decodeIfPresent([String].self, forKey: .killed) {
      self = .killed(flows)
    } else if members.contains(.flows) {
      self = .flows(try FlowList(from: decoder))
    } else if members.contains(.destinations) {
      let lines = try members.decode([AuditLine].self, forKey: .destinations)
      let omitted = try members.decode(AuditLine.Traffic.self, forKey: .omitted)
      self = .audit(AuditReport(try lines.map { try $0.entry() }, omitted: omitted.value))
    } else {
      self = .service(
        ServiceDescription(
          upstreams: try members.decodeUpstreams(),
          datagrams: try members.decodeText(Upstream.DatagramAbility.init, forKey: .datagrams),
          carriesIPv6: try members.decode(Bool.self, forKey: .ipv6)))
    }
  }

  func encode(to encoder: any Encoder) throws {
    var members = encoder.container(keyedBy: Key.self)
    switch self {
    case .error(let text): try members.encode(text, forKey: .error)
    case .status(let status): try members.encode(status, forKey: .status)
    case .draining: try members.encode(true, forKey: .draining)
    case .flows(let list):
      try members.encode(list.flows, forKey: .flows)
      try members.encode(list.omitted, forKey: .omitted)
    case .killed(let flows): try members.encode(flows, forKey: .killed)
    case .reload(let outcome): try members.encode(outcome, forKey: .reload)
    case .serving: try members.encode(true, forKey: .serving)
    case .audit(let report):
      try members.encode(report.entries.map(AuditLine.init), forKey: .destinations)
      try members.encode(AuditLine.Traffic(report.omitted), forKey: .omitted)
    case .service(let service):
      let upstreams = service.upstreams
      try members.encode("\(upstreams.members[0])", forKey: .upstream)
      if upstreams.isPlural {
        try members.encode(upstreams.members.dropFirst().map { "\($0)" }, forKey: .others)
        try members.encode(upstreams.balance.rawValue, forKey: .balance)
      }
      try members.encode(service.datagrams.word, forKey: .datagrams)
      try members.encode(service.carriesIPv6, forKey: .ipv6)
    }
  }
}

extension KeyedDecodingContainer<ControlAnswer.Key> {
  /// The other members of a group are beside the first.
  fileprivate func decodeUpstreams() throws -> UpstreamSelection {
    let first = try decodeText({ try? UpstreamChain($0) }, forKey: .upstream)
    guard let others = try decodeIfPresent([String].self, forKey: .others) else {
      return UpstreamSelection(first)
    }
    return UpstreamSelection(
      [first] + (try others.map { try UpstreamChain($0) }),
      try decodeText(UpstreamSelection.Balance.init, forKey: .balance))
  }
}

extension Configuration.DNS: Codable {}

extension Upstream.DatagramAbility {
  fileprivate init?(_ word: String) {
    guard let ability = Self.allCases.first(where: { $0.word == word }) else { return nil }
    self = ability
  }
}

/// A destination of an audit.
private struct AuditLine: Codable {
  struct Traffic: Codable {
    var flows, failed, sent, received: UInt64

    init(_ traffic: Audit.Traffic) {
      (flows, failed) = (traffic.flows, traffic.failed)
      (sent, received) = (traffic.sent, traffic.received)
    }

    var value: Audit.Traffic {
      Audit.Traffic(flows: flows, failed: failed, sent: sent, received: received)
    }
  }

  var transport, address: String
  var name: String?
  var traffic: Traffic

  init(_ entry: Audit.Entry) {
    transport = entry.destination.transport.rawValue
    address = "\(entry.destination.address)"
    name = entry.name
    traffic = Traffic(entry.traffic)
  }

  func entry() throws -> Audit.Entry {
    guard let transport = Audit.Transport(rawValue: transport),
      let address = SocketAddress(address)
    else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: [], debugDescription: "not a destination"))
    }
    return Audit.Entry(
      destination: Audit.Destination(transport, address), traffic: traffic.value, name: name)
  }
}

extension KeyedDecodingContainer {
  /// A value that is written as text.
  fileprivate func decodeText<Value>(_ parse: (String) -> Value?, forKey key: Key) throws -> Value {
    guard let value = parse(try decode(String.self, forKey: key)) else {
      throw DecodingError.dataCorruptedError(
        forKey: key, in: self, debugDescription: "not what is expected here")
    }
    return value
  }

  fileprivate func decodeTextIfPresent<Value>(
    _ parse: (String) -> Value?, forKey key: Key
  ) throws -> Value? {
    guard contains(key), try !decodeNil(forKey: key) else { return nil }
    return try decodeText(parse, forKey: key)
  }
}
