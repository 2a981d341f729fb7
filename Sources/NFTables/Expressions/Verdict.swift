/// What becomes of a packet.
package enum Verdict: Hashable, Sendable, CustomStringConvertible {
  /// Ends this base chain, also from a chain that it jumped to.
  case accept
  case drop
  /// Back to the rule behind the jump; in a base chain: its policy.
  case `return`
  case jump(String)
  /// Like `jump`, without a way back.
  case goto(String)

  package var description: String {
    switch self {
    case .accept: "accept"
    case .drop: "drop"
    case .return: "return"
    case .jump(let chain): "jump \(chain)"
    case .goto(let chain): "goto \(chain)"
    }
  }
}
