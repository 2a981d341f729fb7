package import NFTables

/// Our two bits of packet and connection marks. They are always written and matched under the mask, so
/// that the other bits stay what VPNs and container networks have made of them.
package struct Marks: Hashable, Sendable {
  /// The two bits, the lower one of which means "captured".
  package let mask: UInt32

  /// - Parameter mask: two neighbouring bits.
  package init(mask: UInt32) {
    precondition(mask.nonzeroBitCount == 2 && mask / (mask & (~mask &+ 1)) == 3, "not two bits")
    self.mask = mask
  }

  /// Pairs of bits in the order in which they are tried. The first ones are those that the marks of
  /// WireGuard (0xca6c), Tailscale (0xff0000), Kubernetes (0xc000), Calico (0xffff0000) and Cilium
  /// (0xf00 and above 0xffff) leave free.
  package static let candidates = [0x3000, 0x30, 0x3, 0xC0, 0xC, 0x300, 0xC00, 0x3000_0000].map {
    Marks(mask: $0)
  }

  /// On connections: their first packet was captured. On this host's own packets: to be routed to the
  /// `tproxy` listener.
  package var machine: MaskedMark { MaskedMark(capturedBit, mask: mask) }

  /// On packets that arrived from a LAN: to be routed to the `tproxy` listener.
  package var gateway: MaskedMark { MaskedMark(mask, mask: mask) }

  /// On the daemon's own sockets (`SO_MARK`).
  package var own: MaskedMark { MaskedMark(mask & ~capturedBit, mask: mask) }

  /// On the sockets by which the daemon answers captured datagrams in the name of other hosts. Nothing
  /// else that this host sends has it, as `gateway` is on what arrives.
  package var reply: MaskedMark { gateway }

  /// Matches `machine` and `gateway`.
  var captured: MaskedMark { MaskedMark(capturedBit, mask: capturedBit) }

  private var capturedBit: UInt32 { mask & (~mask &+ 1) }
}
