/// One match or statement of a rule; every kind that Sluice uses, and no other.
package enum Expression: Hashable, Sendable {
  case interface(InterfaceMatch)
  case interfaceGroup(InterfaceGroupLookup)
  case hardwareAddress(HardwareAddressLookup)
  case owner(SocketOwnerLookup)
  case controlGroup(ControlGroupLookup)
  case family(FamilyMatch)
  case transport(TransportMatch)
  case port(PortLookup)
  case icmpType(ICMPTypeLookup)
  case mark(MarkMatch)
  case setMark(MarkAssignment)
  case direction(DirectionMatch)
  case status(StatusMatch)
  case flags(TCPFlagsMatch)
  case address(AddressLookup)
  case addressType(AddressTypeLookup)
  case socket(SocketMatch)
  case redirect(Redirect)
  case tproxy(TransparentProxy)
  case reject(Reject)
  case verdict(Verdict)
}

extension Expression: CustomStringConvertible {
  package var description: String {
    switch self {
    case .interface(let match): match.description
    case .interfaceGroup(let lookup): lookup.description
    case .hardwareAddress(let lookup): lookup.description
    case .owner(let lookup): lookup.description
    case .controlGroup(let lookup): lookup.description
    case .family(let match): match.description
    case .transport(let match): match.description
    case .port(let lookup): lookup.description
    case .icmpType(let lookup): lookup.description
    case .mark(let match): match.description
    case .setMark(let assignment): assignment.description
    case .direction(let match): match.description
    case .status(let match): match.description
    case .flags(let match): match.description
    case .address(let lookup): lookup.description
    case .addressType(let lookup): lookup.description
    case .socket(let match): match.description
    case .redirect(let statement): statement.description
    case .tproxy(let statement): statement.description
    case .reject(let statement): statement.description
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

extension Expression {
  /// The set that this looks something up in, if any.
  package var set: String? {
    switch self {
    case .interface(let match):
      if case .set(let name) = match.operand { name } else { nil }
    case .interfaceGroup(let lookup): lookup.set
    case .hardwareAddress(let lookup): lookup.set
    case .owner(let lookup): lookup.set
    case .controlGroup(let lookup): lookup.set
    case .port(let lookup): lookup.set
    case .icmpType(let lookup): lookup.set
    case .address(let lookup): lookup.set
    case .addressType(let lookup): lookup.set
    case .family, .transport, .mark, .setMark, .direction, .status, .flags, .socket, .redirect,
      .tproxy,
      .reject, .verdict:
      nil
    }
  }
}
