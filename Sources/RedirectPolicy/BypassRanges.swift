internal import Addressing

/// Ranges that the IANA special-purpose registries (RFC 6890) keep for uses no proxy can serve.
enum BypassRanges {
  /// Never captured: they mean this host or this link, whoever asks.
  static let scoped = blocks(
    "0.0.0.0/8",  // this network (RFC 791, section 3.2)
    "127.0.0.0/8",  // loopback (RFC 1122, section 3.2.1.3)
    "169.254.0.0/16",  // link-local (RFC 3927)
    "224.0.0.0/4",  // multicast (RFC 1112)
    "240.0.0.0/4",  // reserved, and the limited broadcast (RFC 1112, RFC 919)
    "::/128",  // unspecified (RFC 4291)
    "::1/128",  // loopback (RFC 4291)
    "fe80::/10",  // link-local (RFC 4291)
    "ff00::/8"  // multicast (RFC 4291)
  )

  /// Captured only if the user says so: other hosts of the same site.
  static let privateUse = blocks(
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  // RFC 1918
    "100.64.0.0/10",  // between a provider and its customers (RFC 6598)
    "fc00::/7"  // unique local (RFC 4193)
  )

  /// RFC 4291, section 2.5.6.
  static let linkLocal = block("fe80::/10")

  private static func blocks(_ texts: String...) -> [CIDR] { texts.map(block) }

  private static func block(_ text: String) -> CIDR {
    guard let block = CIDR(text) else { preconditionFailure("\(text) is not a block") }
    return block
  }
}
