/// `meta skuid @SET`, `meta skgid @SET`: whose socket sends the packet. A packet that no program's
/// socket sends never matches.
package struct SocketOwnerLookup: Hashable, Sendable, CustomStringConvertible {
  package enum Identity: String, Hashable, Sendable {
    case user = "skuid"
    case group = "skgid"
  }

  package let identity: Identity
  package let set: String

  package init(_ identity: Identity, in set: String) {
    self.identity = identity
    self.set = set
  }

  package var description: String { "meta \(identity.rawValue) @\(set)" }
}
