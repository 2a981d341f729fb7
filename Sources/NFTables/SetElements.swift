// What sets hold besides addresses.

/// What the routing tables say of an address (`RTN_*` in <linux/rtnetlink.h>).
package enum AddressType: UInt32, Hashable, Sendable {
  case local = 2
  case broadcast = 3
  case anycast = 4
  case multicast = 5
}

/// A control group (`cgroups(7)`, version 2). Rules know it by the number of its directory: one that is
/// made again under the same name is another.
package struct ControlGroup: Hashable, Sendable {
  /// Below `/sys/fs/cgroup`, as nft writes it.
  package let path: String
  /// How many directories below the root it is, at least 1.
  package let level: UInt32
  /// Inode number of its directory.
  package let identifier: UInt64

  package init(path: String, level: UInt32, identifier: UInt64) {
    self.path = path
    self.level = level
    self.identifier = identifier
  }
}

/// A type of ICMP (RFC 792) or ICMPv6 (RFC 4443) message.
package struct ICMPType: Hashable, Sendable {
  package let family: IPFamily
  package let number: UInt8
  /// As nft calls it.
  package let name: String

  private init(_ family: IPFamily, _ number: UInt8, _ name: String) {
    self.family = family
    self.number = number
    self.name = name
  }

  /// The type of this number, which is its name if it is none of those below.
  package init(_ family: IPFamily, number: UInt8) {
    let known = Self.errors + Self.linkControl
    self =
      known.first { $0.family == family && $0.number == number }
      ?? ICMPType(family, number, "\(number)")
  }

  /// Messages about packets that could not be delivered.
  package static let errors = [
    ICMPType(.v4, 3, "destination-unreachable"),
    ICMPType(.v4, 11, "time-exceeded"),
    ICMPType(.v4, 12, "parameter-problem"),
    ICMPType(.v6, 1, "destination-unreachable"),
    ICMPType(.v6, 2, "packet-too-big"),
    ICMPType(.v6, 3, "time-exceeded"),
    ICMPType(.v6, 4, "parameter-problem"),
  ]

  /// What hosts of one link say to each other so that it works: neighbour discovery (RFC 4861) and
  /// multicast listeners (RFC 2710, RFC 3810).
  package static let linkControl = [
    ICMPType(.v6, 130, "mld-listener-query"),
    ICMPType(.v6, 131, "mld-listener-report"),
    ICMPType(.v6, 132, "mld-listener-done"),
    ICMPType(.v6, 133, "nd-router-solicit"),
    ICMPType(.v6, 134, "nd-router-advert"),
    ICMPType(.v6, 135, "nd-neighbor-solicit"),
    ICMPType(.v6, 136, "nd-neighbor-advert"),
    ICMPType(.v6, 137, "nd-redirect"),
    ICMPType(.v6, 143, "mld2-listener-report"),
  ]
}
