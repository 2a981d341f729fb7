package import Addressing

/// Where the datagrams of an association are sent to, out of what the upstream says (BND.ADDR and
/// BND.PORT of its reply, RFC 1928, section 6) and the address that it is known by.
///
/// Many servers report an address that nobody outside can use: the unspecified one, one behind their
/// address translation, or one of a family that the association was not made in.
package enum RelayPlace: Hashable, Sendable {
  /// The reported address unless it cannot be right, then `control`; of two that can be right the one
  /// from which an answer has come.
  case automatic
  /// As the server says.
  case reported
  /// The address of the control connection, with the reported port.
  case control
  /// A given address, with the reported port if none is given.
  case fixed(IPAddress, port: UInt16?)

  /// Nil if the server has told no port where one is needed.
  /// - Parameters:
  ///   - reported: what it says; nil if that is a name that no host can have.
  ///   - port: the port that it says.
  ///   - prefersControl: what has been learnt for `automatic`.
  func resolve(
    reported: Endpoint?, port: UInt16, control: SocketAddress, prefersControl: Bool
  ) -> SocketAddress? {
    let place: SocketAddress
    switch self {
    case .fixed(let address, let fixed): place = SocketAddress(address, fixed ?? port)
    case .control: place = SocketAddress(control.address, port)
    case .reported:
      place = SocketAddress(reported?.usableAddress ?? control.address, port)
    case .automatic:
      guard !prefersControl, let address = reported?.usableAddress,
        address.isIPv4 == control.address.isIPv4, address.reach >= control.address.reach
      else { return port == 0 ? nil : SocketAddress(control.address, port) }
      place = SocketAddress(address, port)
    }
    return place.port == 0 ? nil : place
  }
}

extension RelayPlace {
  /// The same of a hop of a chain behind its first, as the relay of the hop before it is to be told. What
  /// is `fixed` is where the first takes datagrams, and the others are found as by `automatic`.
  /// - Parameter hop: where its control connection goes. How far the address of a name is understood is
  ///   the former hop's to know, so that what the server reports is taken for right unless it is of the
  ///   server's own host alone.
  func resolve(
    reported: Endpoint?, port: UInt16, hop: Endpoint, prefersControl: Bool
  ) -> Endpoint? {
    switch hop {
    case .address(let control):
      let place: Self = if case .fixed = self { .automatic } else { self }
      return place.resolve(
        reported: reported, port: port, control: control.unmapped, prefersControl: prefersControl
      ).map { .address($0) }
    case .name(let name, _):
      guard port != 0 else { return nil }
      let isBelieved =
        switch self {
        case .reported: true
        case .control: false
        case .automatic, .fixed:
          !prefersControl && reported?.usableAddress?.reach != .host
        }
      guard isBelieved, let address = reported?.usableAddress else {
        return .name(name, port: port)
      }
      return .address(SocketAddress(address, port))
    }
  }
}

extension Endpoint {
  /// Nil for a name and for the unspecified address.
  fileprivate var usableAddress: IPAddress? {
    switch self {
    case .address(let address):
      let address = address.unmapped.address
      return address.isUnspecified ? nil : address
    case .name: return nil
    }
  }
}

/// How far an address is understood.
enum Reach: Int, Comparable {
  case host, link, site, world

  static func < (a: Reach, b: Reach) -> Bool { a.rawValue < b.rawValue }
}

extension SocketAddress {
  /// Whether a datagram can come from it at all, and be answered.
  var isPossibleSource: Bool { port != 0 && address.isPossibleSource }
}

extension IPAddress {
  /// By the special-purpose registries (RFC 6890).
  var reach: Reach {
    switch self {
    case .v4(let v4):
      let bits = v4.bits
      if bits >> 24 == 127 { return .host }
      if bits >> 16 == 0xA9FE { return .link }  // 169.254.0.0/16
      // 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 (RFC 1918), 100.64.0.0/10 (RFC 6598)
      let isPrivate =
        bits >> 24 == 10 || bits >> 20 == 0xAC1 || bits >> 16 == 0xC0A8 || bits >> 22 == 0x191
      return isPrivate ? .site : .world
    case .v6(let v6):
      if v6 == .loopback { return .host }
      if v6.high >> 54 == 0x3FA { return .link }  // fe80::/10
      return v6.high >> 57 == 0x7E ? .site : .world  // fc00::/7 (RFC 4193)
    }
  }

  /// Whether a datagram can come from it at all: one host's, and not this host's own loopback.
  var isPossibleSource: Bool {
    if isUnspecified || isLoopback { return false }
    switch self {
    case .v4(let v4): return v4.bits >> 28 < 14 && v4.bits >> 24 != 0  // below 224.0.0.0, not 0/8
    case .v6(let v6): return v6.high >> 56 != 0xFF && v6.mappedIPv4 == nil
    }
  }
}
