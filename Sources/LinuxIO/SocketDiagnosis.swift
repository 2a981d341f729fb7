package import Addressing
internal import CLinux

/// Asks the kernel for one socket of this network namespace by its addresses (`sock_diag(7)`), which answers
/// while it is asked.
package struct SocketDiagnosis: ~Copyable {
  package enum Transport: Sendable { case stream, datagrams }

  enum Question {
    case find
    case destroy

    fileprivate var type: UInt16 {
      switch self {
      case .find: UInt16(SOCK_DIAG_BY_FAMILY)
      case .destroy: UInt16(SOCK_DESTROY)
      }
    }

    fileprivate var flags: Int32 {
      switch self {
      case .find: NLM_F_REQUEST
      // It is not answered otherwise.
      case .destroy: NLM_F_REQUEST | NLM_F_ACK
      }
    }
  }

  private let socket: Descriptor

  package init() throws(Errno) {
    socket = Descriptor(owning: try checked(clx_diagnosis_socket()))
  }

  /// Ends the connection between `local` and `remote`, or what is left of it (TIME_WAIT); does nothing if there
  /// is none, or the kernel cannot (CONFIG_INET_DIAG_DESTROY).
  package func destroyConnection(at local: SocketAddress, to remote: SocketAddress) {
    withUnsafeTemporaryAllocation(byteCount: 256, alignment: 8) { answer in
      _ = ask(.destroy, .stream, at: local, to: remote, answer: answer)
    }
  }

  /// The kernel's message; nil if there is none.
  func ask(
    _ what: Question, _ transport: Transport, at local: SocketAddress, to remote: SocketAddress,
    answer: UnsafeMutableRawBufferPointer
  ) -> UnsafeRawBufferPointer? {
    var question = Self.question(what, transport, local, remote)
    guard
      clx_send(socket.rawValue, &question, MemoryLayout<clx_diagnosis_question>.size)
        == MemoryLayout<clx_diagnosis_question>.size
    else { return nil }
    while true {
      let count = clx_recv(socket.rawValue, answer.baseAddress, answer.count)
      if count == -Int(EINTR) { continue }
      return count > 0 ? UnsafeRawBufferPointer(rebasing: answer[..<count]) : nil
    }
  }

  private static func question(
    _ what: Question, _ transport: Transport, _ local: SocketAddress, _ remote: SocketAddress
  ) -> clx_diagnosis_question {
    var question = clx_diagnosis_question()
    question.header.nlmsg_len = UInt32(MemoryLayout<clx_diagnosis_question>.size)
    question.header.nlmsg_type = what.type
    question.header.nlmsg_flags = UInt16(what.flags)
    question.request.sdiag_family = UInt8(local.address.isIPv4 ? AF_INET : AF_INET6)
    question.request.sdiag_protocol = UInt8(transport == .stream ? IPPROTO_TCP : IPPROTO_UDP)
    question.request.idiag_states = .max
    // INET_DIAG_NOCOOKIE (<linux/inet_diag.h>): whichever socket has the addresses.
    question.request.id.idiag_cookie = (.max, .max)
    // For datagrams both sides are swapped "for historical reasons" (net/ipv4/udp_diag.c).
    let (source, destination) = transport == .stream ? (local, remote) : (remote, local)
    question.request.id.idiag_sport = source.port.bigEndian
    question.request.id.idiag_dport = destination.port.bigEndian
    withUnsafeMutableBytes(of: &question.request.id.idiag_src) {
      $0.copyBytes(from: source.address.bytes)
    }
    withUnsafeMutableBytes(of: &question.request.id.idiag_dst) {
      $0.copyBytes(from: destination.address.bytes)
    }
    return question
  }
}
