/// `iifname` and `oifname`: the interface by name, which need not exist yet.
package struct InterfaceMatch: Hashable, Sendable, CustomStringConvertible {
  package enum Direction: String, Hashable, Sendable {
    case input = "iifname"
    case output = "oifname"
  }

  package enum Operand: Hashable, Sendable {
    case name(String)
    /// A set of interface names in the same table.
    case set(String)
  }

  package let direction: Direction
  package let comparison: Comparison
  package let operand: Operand

  package init(_ direction: Direction, _ comparison: Comparison, _ operand: Operand) {
    self.direction = direction
    self.comparison = comparison
    self.operand = operand
  }

  package var description: String {
    let text =
      switch operand {
      case .name(let name): "\"\(name)\""
      case .set(let name): "@\(name)"
      }
    return direction.rawValue + comparison.infix + text
  }
}
