/// `socket cgroupv2 level N @SET`: the ancestor at this depth of the control group that the sending
/// socket was made in, 1 being a child of the root. A socket of a shallower group never matches.
package struct ControlGroupLookup: Hashable, Sendable, CustomStringConvertible {
  package let level: UInt32
  package let set: String

  package init(level: UInt32, in set: String) {
    self.level = level
    self.set = set
  }

  package var description: String { "socket cgroupv2 level \(level) @\(set)" }
}
