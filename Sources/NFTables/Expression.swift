/// One match or statement of a rule; every kind that Sluice uses, and no other.
package enum Expression: Hashable, Sendable {
  case interface(InterfaceMatch)
  case family(FamilyMatch)
  case transport(TransportMatch)
  case mark(MarkMatch)
  case setMark(MarkAssignment)
  case direction(DirectionMatch)
  case flags(TCPFlagsMatch)
  case address(AddressLookup)
  case addressType(AddressTypeLookup)
  case socket(SocketMatch)
  case redirect(Redirect)
  case tproxy(TransparentProxy)
  case verdict(Verdict)
}

extension Expression: CustomStringConvertible {
  package var description: String {
    switch self {
    case .interface(let match): match.description
    case .family(let match): match.description
    case .transport(let match): match.description
    case .mark(let match): match.description
    case .setMark(let assignment): assignment.description
    case .direction(let match): match.description
    case .flags(let match): match.description
    case .address(let lookup): lookup.description
    case .addressType(let lookup): lookup.description
    case .socket(let match): match.description
    case .redirect(let statement): statement.description
    case .tproxy(let statement): statement.description
    case .verdict(let verdict): verdict.description
    }
  }
}

/// How a match compares.
package enum Comparison: Hashable, Sendable {
  case equal
  case notEqual

  /// What nft writes between the two sides where it leaves out `==`.
  var infix: String { self == .equal ? " " : " != " }
}
