internal import CLinux

extension Descriptor {
  /// What a socket is (`socket(7)`).
  package struct Kind: Hashable, Sendable {
    package let isIPv4: Bool
    package let transport: Transport

    package enum Transport: Hashable, Sendable {
      /// TCP, and it accepts connections.
      case listener
      /// UDP.
      case datagrams
      /// Datagrams of UDP that are made by whoever sends them.
      case rawDatagrams
    }

    package init(isIPv4: Bool, _ transport: Transport) {
      self.isIPv4 = isIPv4
      self.transport = transport
    }
  }

  /// Nil for everything else, sockets or not.
  package var kind: Kind? {
    let domain = option(SO_DOMAIN)
    guard domain == AF_INET || domain == AF_INET6 else { return nil }
    let transport: Kind.Transport? =
      switch (option(SO_TYPE), option(SO_PROTOCOL), option(SO_ACCEPTCONN)) {
      case (Int32(SOCK_STREAM.rawValue), Int32(IPPROTO_TCP), 1): .listener
      case (Int32(SOCK_DGRAM.rawValue), Int32(IPPROTO_UDP), _): .datagrams
      case (Int32(SOCK_RAW.rawValue), Int32(IPPROTO_UDP), _): .rawDatagrams
      default: nil
      }
    return transport.map { Kind(isIPv4: domain == AF_INET, $0) }
  }

  /// The number of the network namespace that a socket is of, which no other has as long as this host
  /// runs (`SO_NETNS_COOKIE`); nil before Linux 5.14.
  package var networkNamespace: UInt64? {
    var cookie: UInt64 = 0
    var length = socklen_t(MemoryLayout<UInt64>.size)
    let result = clx_get_option(
      rawValue, SOL_SOCKET, Int32(CLX_SO_NETNS_COOKIE), &cookie, &length)
    return result < 0 ? nil : cookie
  }

  /// The open descriptor of this number, which programs that this process starts do not get; nil if it
  /// is not open.
  package static func inherited(_ number: Int32) -> Descriptor? {
    clx_set_close_on_exec(number) < 0 ? nil : Descriptor(owning: number)
  }

  /// Whether a socket of IPv6 on all addresses takes what comes over IPv4 as well (`ipv6(7)`, IPV6_V6ONLY).
  package var takesBothFamilies: Bool {
    option(SO_DOMAIN) == AF_INET6 && option(IPV6_V6ONLY, at: Int32(IPPROTO_IPV6)) == 0
  }

  /// Has no call that uses it wait.
  package borrowing func makeNonblocking() throws(Errno) {
    _ = try checked(clx_set_nonblocking(rawValue))
  }

  /// Whether a socket of IPv4 or IPv6 takes what is for other addresses than this host's (`ip(7)`,
  /// IP_TRANSPARENT).
  package var isTransparent: Bool {
    switch option(SO_DOMAIN) {
    case AF_INET: option(IP_TRANSPARENT, at: Int32(IPPROTO_IP)) == 1
    case AF_INET6: option(Int32(CLX_IPV6_TRANSPARENT), at: Int32(IPPROTO_IPV6)) == 1
    default: false
    }
  }

  /// Whether it is a socket of netfilter's netlink interface (`netlink(7)`).
  package var isNetfilterSocket: Bool {
    option(SO_DOMAIN) == AF_NETLINK && option(SO_PROTOCOL) == NETLINK_NETFILTER
  }

  /// Marks what a socket sends from now on (`SO_MARK`); needs CAP_NET_ADMIN.
  package borrowing func setMark(_ mark: UInt32) throws(Errno) {
    try set(SOL_SOCKET, SO_MARK, Int32(bitPattern: mark))
  }

  private borrowing func option(_ name: Int32, at level: Int32 = SOL_SOCKET) -> Int32? {
    var value: Int32 = 0
    var length: socklen_t = 4
    return clx_get_option(rawValue, level, name, &value, &length) < 0 ? nil : value
  }
}
