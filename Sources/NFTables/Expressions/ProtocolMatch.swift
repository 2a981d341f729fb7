/// An Internet Protocol version.
package enum IPFamily: Hashable, Sendable {
  case v4
  case v6

  /// As nft writes it before a field of the header: `ip daddr`, `ip6 daddr`.
  var keyword: String { self == .v4 ? "ip" : "ip6" }
}

/// `meta nfproto`: the packet's IP version.
package struct FamilyMatch: Hashable, Sendable, CustomStringConvertible {
  package let family: IPFamily

  package init(_ family: IPFamily) { self.family = family }

  package var description: String { "meta nfproto \(family == .v4 ? "ipv4" : "ipv6")" }
}

/// `meta l4proto`: the transport protocol, found behind any extension headers.
package struct TransportMatch: Hashable, Sendable, CustomStringConvertible {
  package enum Transport: String, Hashable, Sendable {
    case tcp
    case udp
    case icmp
    case icmpv6 = "ipv6-icmp"
  }

  package let comparison: Comparison
  package let transport: Transport

  package init(_ comparison: Comparison, _ transport: Transport) {
    self.comparison = comparison
    self.transport = transport
  }

  package var description: String { "meta l4proto\(comparison.infix)\(transport.rawValue)" }
}
