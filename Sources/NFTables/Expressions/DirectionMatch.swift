/// `ct direction`: whether a packet travels as its connection's first one did, or answers it.
package enum DirectionMatch: String, Hashable, Sendable, CustomStringConvertible {
  case original
  case reply

  package var description: String { "ct direction \(rawValue)" }
}
