package import Addressing

/// A packet as rules see it, with what the kernel knows beside its bytes.
package struct Packet: Hashable, Sendable {
  /// What follows the IP header.
  package enum Transport: Hashable, Sendable {
    case tcp(source: UInt16, destination: UInt16, TCPFlagsMatch.Flags)
    case udp(source: UInt16, destination: UInt16)
    case icmp(type: UInt8)
    case icmpv6(type: UInt8)
    /// Any other protocol, such as SCTP.
    case other
  }

  /// Where a packet arrived.
  package struct Interface: Hashable, Sendable {
    package let name: String
    /// Zero unless somebody has set another.
    package let group: UInt32

    package init(_ name: String, group: UInt32 = 0) {
      self.name = name
      self.group = group
    }

    package static let loopback = Interface("lo")
  }

  package var source: IPAddress
  package var destination: IPAddress
  package var transport: Transport
  /// What the routing tables say of the destination; nil: another host.
  package var destinationType: AddressType?
  /// Nil for what this host sends.
  package var input: Interface?
  /// Nil before the packet is routed.
  package var output: String?
  /// Of the sending socket; nil if no program of this host sends the packet.
  package var user: UInt32?
  package var group: UInt32?
  /// Identifiers of the sending socket's control group and those above it, from level 1 downwards.
  package var controlGroups: [UInt64] = []
  /// Of the sender, where the packet arrived by Ethernet.
  package var hardwareAddress: HardwareAddress?
  package var direction = DirectionMatch.original
  /// Whether its connection was given another source.
  package var isTranslated = false
  package var mark: UInt32 = 0
  package var connectionMark: UInt32 = 0
  /// Whether a transparent socket has this packet's connection.
  package var hasTransparentSocket = false

  package init(from source: IPAddress, to destination: IPAddress, _ transport: Transport) {
    self.source = source
    self.destination = destination
    self.transport = transport
  }

  package var family: IPFamily { destination.family }

  subscript(holder: MarkHolder) -> UInt32 {
    get {
      switch holder {
      case .packet: mark
      case .connection: connectionMark
      }
    }
    set {
      switch holder {
      case .packet: mark = newValue
      case .connection: connectionMark = newValue
      }
    }
  }
}

extension Packet.Transport {
  /// Nil for a protocol that no rule names.
  var kind: TransportMatch.Transport? {
    switch self {
    case .tcp: .tcp
    case .udp: .udp
    case .icmp: .icmp
    case .icmpv6: .icmpv6
    case .other: nil
    }
  }

  var name: String { kind?.rawValue ?? "another protocol" }

  /// Nil for protocols without this port.
  func port(_ transport: PortLookup.Transport, _ field: PortLookup.Field) -> UInt16? {
    let ports: (source: UInt16, destination: UInt16)
    switch (self, transport) {
    case (.tcp(let source, let destination, _), .tcp): ports = (source, destination)
    case (.udp(let source, let destination), .udp): ports = (source, destination)
    case (.tcp, .udp), (.udp, .tcp), (.icmp, _), (.icmpv6, _), (.other, _): return nil
    }
    return field == .source ? ports.source : ports.destination
  }
}
