/// `tcp dport @SET`, `udp dport @SET` and the like: a port of the packet is, or is not, in a set of the
/// same table; packets of other protocols never match.
package struct PortLookup: Hashable, Sendable, CustomStringConvertible {
  package enum Transport: String, Hashable, Sendable {
    case tcp
    case udp
  }

  package enum Field: String, Hashable, Sendable {
    case source = "sport"
    case destination = "dport"
  }

  package let transport: Transport
  package let field: Field
  package let comparison: Comparison
  package let set: String

  package init(
    _ transport: Transport, _ field: Field, _ comparison: Comparison = .equal, in set: String
  ) {
    self.transport = transport
    self.field = field
    self.comparison = comparison
    self.set = set
  }

  package var description: String {
    "\(transport.rawValue) \(field.rawValue)\(comparison.infix)@\(set)"
  }
}
