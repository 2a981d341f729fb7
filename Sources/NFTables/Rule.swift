/// Expressions that a packet passes from left to right: a match that fails ends the rule, a
/// statement acts, a verdict decides.
package struct Rule: Hashable, Sendable {
  package var expressions: [Expression]

  package init(_ expressions: Expression...) {
    self.expressions = expressions
  }
}

extension Rule: CustomStringConvertible {
  package var description: String {
    expressions.map(\.description).joined(separator: " ")
  }
}
