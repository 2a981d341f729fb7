internal import Addressing
internal import LinuxIO
internal import SOCKS

/// Why a target could not be connected to.
struct TargetError {
  let errno: Errno
  /// Of which family the address was.
  let isIPv4: Bool

  /// What a client is told (RFC 1928, section 6).
  var replyCode: ReplyCode {
    switch errno {
    case .connectionRefused, .connectionReset: .connectionRefused
    case .hostUnreachable, .hostDown: .hostUnreachable
    case .networkUnreachable, .networkDown: .networkUnreachable
    case .timedOut: .ttlExpired
    // A route that prohibits it, a firewall's rule of this host, or ICMPv6 from one elsewhere.
    case .accessDenied, .notPermitted: .notAllowed
    case .familyNotSupported: .addressTypeNotSupported
    // This host has no IPv6 address; while IPv4 says so when all ports are in use.
    case .addressNotAvailable where !isIPv4: .addressTypeNotSupported
    default: .generalFailure
    }
  }

  /// As it is counted.
  var failure: Failure {
    switch replyCode {
    case .connectionRefused: .targetRefused
    case .hostUnreachable, .networkUnreachable: .targetUnreachable
    case .ttlExpired: .targetTimeout
    default: .targetFailed
    }
  }

  /// Whether it says more of the target than `other`, which another of its addresses gave: a host that
  /// refuses is there, while this host may have no way to any address of a family.
  func saysMore(than other: TargetError) -> Bool { weight > other.weight }

  private var weight: Int {
    switch replyCode {
    case .connectionRefused: 4
    case .ttlExpired, .notAllowed: 3
    case .hostUnreachable: 2
    case .networkUnreachable, .addressTypeNotSupported: 0
    default: 1
    }
  }
}
