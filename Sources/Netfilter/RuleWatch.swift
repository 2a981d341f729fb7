internal import CLibmnl
internal import CLibnftnl
internal import CLinux
internal import LinuxIO
internal import RedirectPolicy

/// Notifications of the kernel about changes that others make to rules, routes and settings.
package final class RuleWatch {
  /// What may have changed.
  package struct Changes: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Our tables.
    package static let tables = Changes(rawValue: 1)
    /// Rules and routes of policy routing, or interfaces that routes need.
    package static let routing = Changes(rawValue: 2)
    /// Settings of interfaces.
    package static let settings = Changes(rawValue: 4)
  }

  private let nftables: NetlinkSocket
  private let routing: NetlinkSocket

  private static let tables = Int32(NFNLGRP_NFTABLES.rawValue)
  private var watchesTables = false

  /// Watches everything but tables.
  init() throws(Errno) {
    nftables = try NetlinkSocket(NETLINK_NETFILTER)
    routing = try NetlinkSocket(NETLINK_ROUTE)
    for group in [
      RTNLGRP_LINK, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
      RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF,
    ] {
      try routing.join(Int32(group.rawValue))
    }
  }

  /// Begins or ceases to watch tables. The kernel writes a notification for every element of a set as
  /// long as anybody wants to read it, which costs more than the change itself.
  func watchTables(_ watches: Bool) throws(NetfilterError) {
    guard watches != watchesTables else { return }
    do {
      if watches { try nftables.join(Self.tables) } else { try nftables.leave(Self.tables) }
    } catch {
      throw .failed(operation: "watch the tables", error)
    }
    watchesTables = watches
  }

  /// For registration with `Epoll`: readable when there is something to take.
  package var descriptors: [Int32] { [nftables.rawValue, routing.rawValue] }

  /// How long whoever changes something has to finish: what `ip route flush` deletes one by one, and
  /// looks for again and again, should not be put back in between.
  private static let settling = Timeout(milliseconds: 10)

  /// Takes what was notified since the last time, with what follows at once.
  package func take() -> Changes {
    let changes = takeWaiting()
    if changes.isEmpty { return changes }
    pause(Self.settling)
    return changes.union(takeWaiting())
  }

  /// Where notifications were lost, anything may have changed.
  private func takeWaiting() -> Changes {
    var changes: Changes = []
    do {
      for message in try nftables.notifications() where Self.isOurs(message) {
        changes.insert(.tables)
      }
    } catch {
      changes.insert(.tables)
    }
    do {
      for message in try routing.notifications() { changes.formUnion(Self.kind(message)) }
    } catch {
      changes.formUnion([.routing, .settings])
    }
    return changes
  }

  /// Whether a notification of nftables is about a table of ours: the name of the table is the first
  /// attribute of every object (`NFTA_*_TABLE`).
  private static func isOurs(_ message: [UInt8]) -> Bool {
    guard let table = ParsedMessage<nfgenmsg>(message)?.text(UInt16(NFTA_TABLE_NAME.rawValue))
    else { return false }
    return table == RedirectPolicy.tableName || table == RedirectPolicy.guardTableName
  }

  private static func kind(_ message: [UInt8]) -> Changes {
    switch messageType(message) {
    case RTM_NEWNETCONF: .settings
    case RTM_NEWLINK, RTM_DELRULE, RTM_DELROUTE, RTM_NEWROUTE: .routing
    default: []
    }
  }
}
