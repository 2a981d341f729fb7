/// `reject`: drops the packet and tells its sender, at `input`, `forward`, `output` or, since Linux 5.9,
/// `prerouting`.
package enum Reject: String, Hashable, Sendable, CustomStringConvertible {
  /// A TCP segment with RST; only behind a match of TCP.
  case tcpReset = "reject with tcp reset"
  /// ICMP port unreachable of the packet's family. nft lists `reject` alone, but reads that as a reject
  /// of one family where the rule speaks of one.
  case portUnreachable = "reject with icmpx port-unreachable"
  /// ICMP administratively prohibited of the packet's family.
  case administrativelyProhibited = "reject with icmpx admin-prohibited"

  package var description: String { rawValue }
}
