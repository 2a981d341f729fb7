internal import NFTables

extension RedirectPolicy {
  /// Our two bits of packet and connection marks. They are always written and matched under the mask,
  /// so that the other bits stay what VPNs and container networks have made of them.
  package enum Mark {
    /// The bits that are ours.
    package static let mask: UInt32 = 0x3000
    /// "To the tproxy listener": on packets, for policy routing; on connections, that their first
    /// packet was captured.
    package static let tproxy: UInt32 = 0x1000
    /// The daemon's own sockets (`SO_MARK`).
    package static let own: UInt32 = 0x2000

    static let maskedTproxy = MaskedMark(tproxy, mask: mask)
    static let maskedOwn = MaskedMark(own, mask: mask)
  }
}
