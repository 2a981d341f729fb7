/// `ether saddr @SET`: the sender's link-layer address is in a set of the same table. What arrives on
/// another kind of link than Ethernet never matches.
package struct HardwareAddressLookup: Hashable, Sendable, CustomStringConvertible {
  package let set: String

  package init(in set: String) { self.set = set }

  package var description: String { "ether saddr @\(set)" }
}
