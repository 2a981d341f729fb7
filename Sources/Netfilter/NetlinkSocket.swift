internal import CLibmnl
internal import CLinux
internal import LinuxIO

/// A netlink socket (`netlink(7)`). The kernel handles a request while it is being sent, so that all
/// answers are there when `send` returns and nothing ever has to be waited for.
struct NetlinkSocket: ~Copyable {
  /// What the kernel said to one message: zero, or the error number.
  struct Acknowledgement {
    let sequence: UInt32
    let error: Errno?
  }

  private let socket: OpaquePointer

  /// - Parameter bus: NETLINK_ROUTE or NETLINK_NETFILTER.
  init(_ bus: Int32) throws(Errno) {
    var error: Int32 = 0
    guard let socket = clx_mnl_open(bus, &error) else { throw Errno(rawValue: -error) }
    self.socket = socket
    // Errors need not quote the whole message; and dumps are filtered by the kernel if it can
    // (Linux 4.20). Both only save work, so that their failure does not matter.
    set(NETLINK_CAP_ACK, 1)
    set(NETLINK_GET_STRICT_CHK, 1)
  }

  /// A socket that another process has opened and bound, with the address that it has there.
  init(adopting descriptor: consuming Descriptor) throws(Errno) {
    try descriptor.makeNonblocking()
    var error: Int32 = 0
    let number = descriptor.take()
    guard let socket = clx_mnl_adopt(number, &error) else {
      _ = Descriptor(owning: number)
      throw Errno(rawValue: -error)
    }
    self.socket = socket
    // Answers that nobody has read any more.
    _ = try? notifications()
  }

  deinit { mnl_socket_close(socket) }

  /// The address of this socket; owned tables name it as their owner.
  var portID: UInt32 { mnl_socket_get_portid(socket) }

  /// Sends messages, each with NLM_F_ACK, as one datagram and returns the kernel's answers.
  func acknowledgements(to messages: [UInt8], count: Int) throws(Errno) -> [Acknowledgement] {
    reserve(sending: messages.count, answers: count)
    try send(messages)
    var answers: [Acknowledgement] = []
    try receive { header, bytes in
      guard header.nlmsg_type == UInt16(NLMSG_ERROR) else { return .more }
      let code = bytes.loadUnaligned(fromByteOffset: Self.headerBytes, as: Int32.self)
      answers.append(
        Acknowledgement(
          sequence: header.nlmsg_seq, error: code == 0 ? nil : Errno(rawValue: -code)))
      return .more
    }
    return answers
  }

  /// Sends a request for one object or for a dump, and returns the messages that it is answered
  /// with, headers included. A dump that met a change (NLM_F_DUMP_INTR) is asked for again; EINTR
  /// where that happens too often.
  func answers(to request: [UInt8]) throws(Errno) -> [[UInt8]] {
    for _ in 1..<Self.maximumAttempts {
      do {
        return try answersOnce(to: request)
      } catch .interrupted {
        continue
      }
    }
    return try answersOnce(to: request)
  }

  private func answersOnce(to request: [UInt8]) throws(Errno) -> [[UInt8]] {
    try send(request)
    var messages: [[UInt8]] = []
    var failure: Errno?
    try receive { header, bytes in
      if header.nlmsg_flags & UInt16(NLM_F_DUMP_INTR) != 0 { failure = .interrupted }
      switch Int32(header.nlmsg_type) {
      case NLMSG_ERROR, NLMSG_DONE:
        // Both begin with an error number, zero at the end of a complete dump.
        let code = bytes.loadUnaligned(fromByteOffset: Self.headerBytes, as: Int32.self)
        if code != 0 { failure = Errno(rawValue: -code) }
        return .done
      default:
        messages.append(Array(bytes))
        return .more
      }
    }
    if let failure { throw failure }
    return messages
  }

  /// The same for a dump of routing objects, which are none where the kernel lacks the family, or has
  /// never had a route in the table in question.
  func dump(_ request: [UInt8]) throws(Errno) -> [[UInt8]] {
    do {
      return try answers(to: request)
    } catch .familyNotSupported {
      return []
    } catch .noEntry {
      return []
    }
  }

  // MARK: Notifications

  /// For registration with `Epoll`.
  var rawValue: Int32 { mnl_socket_get_fd(socket) }

  /// Subscribes to a multicast group (`RTNLGRP_*`, `NFNLGRP_*`).
  func join(_ group: Int32) throws(Errno) { _ = try checked(clx_mnl_join(socket, group)) }

  func leave(_ group: Int32) throws(Errno) { _ = try checked(clx_mnl_leave(socket, group)) }

  /// Notifications that wait, headers included. Throws ENOBUFS when some were lost.
  func notifications() throws(Errno) -> [[UInt8]] {
    var messages: [[UInt8]] = []
    try receive { _, bytes in
      messages.append(Array(bytes))
      return .more
    }
    return messages
  }

  // MARK: Pieces

  private enum Progress {
    case more
    case done
  }

  /// Of a dump.
  private static let maximumAttempts = 100
  private static let headerBytes = MemoryLayout<nlmsghdr>.size
  /// The kernel fills at most 32 KiB per read of a dump (`netlink_recvmsg`, `max_recvmsg_len`).
  private static let readBytes = 64 * 1024

  private func send(_ messages: [UInt8]) throws(Errno) {
    // SAFETY: the socket lives as long as this value; the bytes are only read.
    _ = try checked(Int(clx_mnl_send(socket, messages, messages.count)))
  }

  /// Reads until `handle` has had the last message of an answer, or there is nothing more.
  private func receive(
    _ handle: (nlmsghdr, UnsafeRawBufferPointer) -> Progress
  ) throws(Errno) {
    var buffer = [UInt8](repeating: 0, count: Self.readBytes)
    while true {
      // SAFETY: the kernel writes at most `buffer.count` bytes.
      let result = clx_mnl_receive(socket, &buffer, buffer.count)
      if result == -Int(EAGAIN) { return }
      if result == -Int(EINTR) { continue }
      let count = try checked(Int(result))
      let progress = buffer.withUnsafeBytes { bytes in
        var rest = UnsafeRawBufferPointer(rebasing: bytes[..<count])
        while rest.count >= Self.headerBytes {
          let header = rest.loadUnaligned(as: nlmsghdr.self)
          let length = Int(header.nlmsg_len)
          guard length >= Self.headerBytes, length <= rest.count else { break }
          if handle(header, UnsafeRawBufferPointer(rebasing: rest[..<length])) == .done {
            return Progress.done
          }
          rest = UnsafeRawBufferPointer(rebasing: rest[min((length + 3) & ~3, rest.count)...])
        }
        return .more
      }
      if progress == .done { return }
    }
  }

  /// Room for a batch and for the answers to it: the defaults (`net.core.wmem_default`) hold about
  /// 200 KB and 250 answers. CAP_NET_ADMIN allows more than `wmem_max`; without it nothing is sent.
  private func reserve(sending bytes: Int, answers count: Int) {
    let answerBytes = 2048
    force(SO_SNDBUFFORCE, 2 * bytes + Self.readBytes)
    force(SO_RCVBUFFORCE, count * answerBytes + 4 * Self.readBytes)
  }

  private func force(_ option: Int32, _ bytes: Int) {
    var value = Int32(clamping: bytes)
    _ = clx_set_option(
      mnl_socket_get_fd(socket), SOL_SOCKET, option, &value, socklen_t(MemoryLayout<Int32>.size))
  }

  private func set(_ option: Int32, _ value: Int32) {
    var value = value
    _ = mnl_socket_setsockopt(socket, option, &value, socklen_t(MemoryLayout<Int32>.size))
  }
}
