internal import CLibmnl
internal import CLinux
package import LinuxIO
package import NFTables
internal import RedirectPolicy

/// What else is in this network namespace: interfaces, and policy routing that is not ours. Only reads.
package struct HostNetwork: ~Copyable {
  /// A rule of policy routing that somebody else has made.
  package struct Rule: Hashable, Sendable {
    package var family: IPFamily
    package var priority: UInt32
    /// The mark that it asks for under `markMask`; a mask of zero asks for none.
    package var mark: UInt32
    package var markMask: UInt32

    package init(_ family: IPFamily, priority: UInt32, mark: UInt32 = 0, markMask: UInt32 = 0) {
      self.family = family
      self.priority = priority
      self.mark = mark
      self.markMask = markMask
    }
  }

  /// A network interface.
  package struct Interface: Hashable, Sendable {
    package var name: String
    /// Number of its interface group.
    package var group: UInt32
    /// Whether the administrator has set it up, cable or not.
    package var isUp: Bool
    package var isBridge: Bool

    package init(_ name: String, group: UInt32 = 0, isUp: Bool = true, isBridge: Bool = false) {
      self.name = name
      self.group = group
      self.isUp = isUp
      self.isBridge = isBridge
    }
  }

  private let socket: NetlinkSocket

  package init() throws(Errno) { socket = try NetlinkSocket(NETLINK_ROUTE) }

  package func interfaces() throws(Errno) -> [Interface] {
    try socket.dump(RoutingMessage.interfaceDump).compactMap(RoutingMessage.interface)
  }

  /// The rules of both families that do not bear our protocol number.
  package func foreignRules() throws(Errno) -> [Rule] {
    var rules: [Rule] = []
    for family in [IPFamily.v4, .v6] {
      rules += try socket.dump(RoutingMessage.ruleDump(family)).compactMap(
        RoutingMessage.foreignRule)
    }
    return rules
  }

  /// How many routes a table has, of each family, that do not bear our protocol number.
  package func foreignRoutes(inTable table: UInt8) throws(Errno) -> [IPFamily: Int] {
    var counts: [IPFamily: Int] = [:]
    for family in [IPFamily.v4, .v6] {
      let count = try socket.dump(RoutingMessage.routeDump(family, table: table)).count {
        RoutingMessage.isForeignRoute($0, inTable: table)
      }
      if count > 0 { counts[family] = count }
    }
    return counts
  }
}
