/// `ct status`: what connection tracking has done to a packet's connection.
package enum StatusMatch: String, Hashable, Sendable, CustomStringConvertible {
  /// Given it another source, as for a private network behind one address.
  case translatedSource = "snat"

  package var description: String { "ct status \(rawValue)" }
}
