package import Addressing
internal import DNS
internal import Synchronization

/// With whom the captured side has talked: for each destination how often and how much, and the name that
/// its address had when that was looked up. All workers share it; they note what a flow was when it is
/// over, so that it is whole once they have ended.
package final class Audit: Sendable {
  /// Destinations that are told apart; all further ones are summed up.
  package static let maximumDestinations = 10_000
  /// Addresses whose names are known; the one that has not been looked up for the longest time goes first.
  package static let maximumNames = 16_384

  package enum Transport: String, Sendable { case tcp, udp }

  package struct Destination: Hashable, Sendable {
    package let transport: Transport
    package let address: SocketAddress

    package init(_ transport: Transport, _ address: SocketAddress) {
      self.transport = transport
      self.address = address
    }
  }

  package struct Traffic: Hashable, Sendable {
    /// TCP connections; client endpoints that have sent datagrams, or got any; DNS queries that went on
    /// by TCP; and datagrams that could not go on at all.
    package internal(set) var flows: UInt64 = 0
    /// Of them, those for which there was no way to the destination.
    package internal(set) var failed: UInt64 = 0
    /// Bytes of payload to the destination, and from it.
    package internal(set) var sent: UInt64 = 0
    package internal(set) var received: UInt64 = 0

    package init(flows: UInt64 = 0, failed: UInt64 = 0, sent: UInt64 = 0, received: UInt64 = 0) {
      (self.flows, self.failed, self.sent, self.received) = (flows, failed, sent, received)
    }

    static func += (sum: inout Traffic, more: Traffic) {
      sum.flows &+= more.flows
      sum.failed &+= more.failed
      sum.sent &+= more.sent
      sum.received &+= more.received
    }
  }

  package struct Entry: Hashable, Sendable {
    package let destination: Destination
    package let traffic: Traffic
    /// Nil if no answer has been seen that has the address. What host names do not have is `\DDD`.
    package let name: String?

    package init(destination: Destination, traffic: Traffic, name: String?) {
      (self.destination, self.traffic, self.name) = (destination, traffic, name)
    }
  }

  private struct Row {
    var traffic = Traffic()
    var name: String?
  }

  private struct State: ~Copyable {
    var rows: [Destination: Row] = [:]
    var omitted = Traffic()
    var names = LearntNames(maximum: Audit.maximumNames)
  }

  private let state = Mutex(State())

  package init() {}

  /// All destinations that are told apart, those with the most bytes first.
  package func entries() -> [Entry] {
    let entries = state.withLock { state in
      state.rows.map { destination, row in
        Entry(
          destination: destination, traffic: row.traffic,
          name: row.name ?? state.names[destination.address.address])
      }
    }
    return entries.sorted { $0.precedes($1) }
  }

  /// The sum of all other destinations.
  package var omitted: Traffic { state.withLock { $0.omitted } }

  /// Adds what one or more flows have carried.
  func record(_ traffic: Traffic, _ destination: Destination) {
    state.withLock { state in
      guard state.rows[destination] != nil || state.rows.count < Self.maximumDestinations else {
        state.omitted += traffic
        return
      }
      // The name of the first flow: that of the address may be another one later, or forgotten.
      let name = state.names[destination.address.address]
      state.rows[destination, default: Row()].traffic += traffic
      if let name, state.rows[destination]?.name == nil { state.rows[destination]?.name = name }
    }
  }

  /// Learns the names of addresses from what may be an answer to a DNS query.
  func learn(from message: UnsafeRawBufferPointer) {
    guard let answer = NamedAddresses(message.bindMemory(to: UInt8.self).span) else { return }
    state.withLock { state in
      for address in answer.addresses { state.names.learn(answer.name, of: IPAddress(address)) }
    }
  }
}

extension Audit.Entry {
  /// The order of a report: by bytes, by flows, and then one that is always the same.
  fileprivate func precedes(_ other: Audit.Entry) -> Bool {
    let (bytes, others) = (traffic.bytes, other.traffic.bytes)
    if bytes != others { return bytes > others }
    if traffic.flows != other.traffic.flows { return traffic.flows > other.traffic.flows }
    return destination.sortKey.lexicographicallyPrecedes(other.destination.sortKey)
  }
}

extension Audit.Traffic {
  fileprivate var bytes: UInt64 { sent &+ received }
}

extension Audit.Destination {
  fileprivate var sortKey: [UInt8] {
    let bytes = address.address.bytes
    return [UInt8(bytes.count)] + bytes
      + [UInt8(address.port >> 8), UInt8(truncatingIfNeeded: address.port)]
      + [transport == .tcp ? 0 : 1]
  }
}

extension IPAddress {
  init(_ address: NamedAddresses.Address) {
    switch address {
    case .v4(let bits): self = .v4(IPv4Address(bits: bits))
    case .v6(let high, let low): self = .v6(IPv6Address(high: high, low: low))
    }
  }
}
