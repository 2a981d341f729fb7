internal import GSSAPI
internal import LinuxIO
internal import SOCKS

/// Datagrams of associations through GSSAPI (RFC 1961, section 5): each is a message of its own, with the
/// header of RFC 1928 inside. They are sent one by one, since every one is made anew.
extension Worker {
  /// Of header and payload together: more has no room in a packet once it is wrapped.
  private static let maximumProtectedBytes =
    UDPHeader.maximumPayloadBytes - SecurityMessage.headBytes - 128

  /// What protects the datagrams of an open association; nil where they go as they are.
  func datagramChannel(
    of association: UnsafeMutablePointer<Association>
  ) -> ProtectedChannel? {
    let index = association.pointee.negotiation
    return index < 0 ? nil : negotiations[Int(index)].channel
  }

  /// Sends a datagram, or several that the kernel has joined, behind `datagrams.header`.
  func sendProtected(
    _ bytes: UnsafeRawBufferPointer, joinedEvery segment: Int, through channel: ProtectedChannel,
    _ association: UnsafeMutablePointer<Association>
  ) {
    guard let socket = association.pointee.relay?.rawValue else {
      preconditionFailure("an open association without a relay")
    }
    let header = datagrams.header
    bytes.forEachDatagram(of: segment) { payload in
      guard header.count + payload.count <= Self.maximumProtectedBytes else {
        counters.add(.tooLarge)
        return
      }
      var plain: [UInt8] = []
      plain.reserveCapacity(header.count + payload.count)
      for index in 0..<header.count { plain.append(header.bytes[index]) }
      plain.append(contentsOf: payload)
      guard let message = try? channel.message(with: plain) else {
        counters.add(.unsent)
        return
      }
      switch message.withUnsafeBytes({ send(socket, $0) }) {
      case .bytes:
        counters.add(to: .datagramsUpstream)
        counters.add(payload.count, to: .datagramBytesUpstream)
      case .wouldBlock, .failed: counters.add(.unsent)
      }
    }
  }

  /// What the relay has sent, out of its message; nil, and counted, if it is no message of the server's.
  func unwrapped(
    _ datagram: UnsafeRawBufferPointer, by channel: ProtectedChannel
  ) -> [UInt8]? {
    guard let bytes = try? channel.bytes(in: datagram) else {
      counters.add(.malformed)
      return nil
    }
    return bytes
  }
}
