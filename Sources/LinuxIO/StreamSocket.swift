package import Addressing
internal import CLinux

/// A TCP socket, always non-blocking and close-on-exec.
package enum StreamSocket {
  /// How a listener is made.
  package struct ListenOptions: Sendable {
    /// Accept connections to addresses that are not ours (TPROXY); needs CAP_NET_ADMIN.
    package var transparent = false
    /// Several sockets share the port, and the kernel spreads connections over them.
    package var reusePort = true
    /// Mark of this socket's packets and those of what it accepts (`SO_MARK`); needs CAP_NET_ADMIN.
    package var mark: UInt32?
    /// Connections waiting to be accepted; the kernel caps it at net.core.somaxconn.
    package var backlog: Int32 = 4096

    package init(transparent: Bool = false, mark: UInt32? = nil) {
      self.transparent = transparent
      self.mark = mark
    }
  }

  /// A listening socket; accepted sockets inherit its mark and TCP_NODELAY.
  package static func listen(
    on address: SocketAddress, _ options: ListenOptions
  ) throws(Errno) -> Descriptor {
    let socket = Descriptor(owning: try checked(clx_stream_socket(address.kernelFamily)))
    try socket.set(SOL_SOCKET, SO_REUSEADDR, 1)
    if options.reusePort { try socket.set(SOL_SOCKET, SO_REUSEPORT, 1) }
    if !address.address.isIPv4 { try socket.set(Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
    if options.transparent {
      if address.address.isIPv4 {
        try socket.set(Int32(IPPROTO_IP), IP_TRANSPARENT, 1)
      } else {
        try socket.set(Int32(IPPROTO_IPV6), Int32(CLX_IPV6_TRANSPARENT), 1)
      }
    }
    if let mark = options.mark { try socket.set(SOL_SOCKET, SO_MARK, Int32(bitPattern: mark)) }
    try socket.set(Int32(IPPROTO_TCP), TCP_NODELAY, 1)
    _ = try checked(address.withKernelAddress { clx_bind(socket.rawValue, $0, $1) })
    _ = try checked(clx_listen(socket.rawValue, options.backlog))
    return socket
  }

  /// One more descriptor of a listener that somebody else has opened, which behaves like one of `listen` from now on.
  package static func copy(ofListener number: Int32) throws(Errno) -> Descriptor {
    let socket = Descriptor(owning: try checked(clx_copy(number)))
    try socket.makeNonblocking()
    try socket.set(Int32(IPPROTO_TCP), TCP_NODELAY, 1)
    return socket
  }

  /// Holds a port of the kernel's choice without listening, until the descriptor goes; listeners that
  /// share ports can be opened on it meanwhile.
  package static func reservePort(on address: IPAddress) throws(Errno) -> Descriptor {
    let wanted = SocketAddress(address, 0)
    let socket = Descriptor(owning: try checked(clx_stream_socket(wanted.kernelFamily)))
    try socket.set(SOL_SOCKET, SO_REUSEPORT, 1)
    _ = try checked(wanted.withKernelAddress { clx_bind(socket.rawValue, $0, $1) })
    return socket
  }

  /// Throws what stands in the way of listening on `address`: EADDRINUSE if somebody does, also one
  /// who would share the port, EADDRNOTAVAIL or EAFNOSUPPORT if this host lacks it.
  package static func checkFree(_ address: SocketAddress) throws(Errno) {
    let socket = Descriptor(owning: try checked(clx_stream_socket(address.kernelFamily)))
    try socket.set(SOL_SOCKET, SO_REUSEADDR, 1)
    if !address.address.isIPv4 { try socket.set(Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
    _ = try checked(address.withKernelAddress { clx_bind(socket.rawValue, $0, $1) })
  }

  /// What became of one attempt to accept.
  package enum Accepted: ~Copyable {
    case connection(Descriptor, peer: SocketAddress)
    /// The queue is empty.
    case none
    /// This connection is gone already; there may be others.
    case aborted
    /// Descriptors or memory have run out, or the listener is broken.
    case failed(Errno)
  }

  /// `accept4(2)`.
  package static func accept(from listener: borrowing Descriptor) -> Accepted {
    accept(from: listener.rawValue)
  }

  /// The same for somebody else's descriptor.
  package static func accept(from listener: Int32) -> Accepted {
    let (result, peer) = SocketAddress.filled { clx_accept(listener, $0, $1) }
    if result >= 0 {
      let socket = Descriptor(owning: result)
      guard let peer else { return .aborted }
      return .connection(socket, peer: peer)
    }
    switch -result {
    case EAGAIN:
      return .none
    // accept(2), "Error handling": pending network errors of the new socket are passed on here.
    case EINTR, ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH,
      EOPNOTSUPP, ENETUNREACH, EPERM:
      return .aborted
    default:
      return .failed(Errno(rawValue: -result))
    }
  }

  /// What connections have that the system does not give them by itself (tcp(7)).
  package struct Tuning: Hashable, Sendable {
    /// How long sent bytes may stay unacknowledged until the connection has failed, in milliseconds; nil: as
    /// the system has it, a quarter of an hour.
    package var userTimeoutMilliseconds: Int32?
    /// The congestion control; nil: the system's.
    package var congestion: String?
    /// The first bytes go out with the SYN, if the server has given a cookie for that before (RFC 7413).
    package var fastOpen = false

    package init() {}

    /// The same without pacing, unless a congestion control has been chosen.
    package var unpaced: Tuning {
      var tuning = self
      tuning.congestion = congestion ?? StreamSocket.unpaced.description
      return tuning
    }

    /// Throws what the kernel has against it: ENOENT for a congestion control that it lacks, EPERM for one
    /// that is not for everybody.
    package func check() throws(Errno) { try apply(to: try open(isIPv4: true)) }

    func apply(to socket: borrowing Descriptor) throws(Errno) {
      if let time = userTimeoutMilliseconds {
        try socket.set(Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, time)
      }
      if fastOpen { try socket.set(Int32(IPPROTO_TCP), TCP_FASTOPEN_CONNECT, 1) }
      guard let congestion else { return }
      let (descriptor, count) = (socket.rawValue, socklen_t(congestion.utf8.count))
      _ = try checked(
        congestion.withCString {
          clx_set_option(descriptor, Int32(IPPROTO_TCP), TCP_CONGESTION, $0, count)
        })
    }
  }

  /// A socket that is neither bound nor connected.
  package static func open(isIPv4: Bool) throws(Errno) -> Descriptor {
    Descriptor(owning: try checked(clx_stream_socket(isIPv4 ? AF_INET : AF_INET6)))
  }

  /// Starts to connect. The connection is made, or has failed, when the socket becomes writable:
  /// ask `pendingError`.
  /// - Parameters:
  ///   - mark: packet mark of the connection (`SO_MARK`), its handshake included.
  ///   - speaksFirst: whether bytes follow at once, that carry the last acknowledgement of TCP's
  ///     handshake: the kernel then puts that off for 0.2 s (`tcp_rcv_synsent_state_process`).
  package static func connect(
    to address: SocketAddress, mark: UInt32?, speaksFirst: Bool = false, _ tuning: Tuning? = nil
  ) throws(Errno) -> Descriptor {
    let socket = try open(isIPv4: address.address.isIPv4)
    if let mark { try socket.set(SOL_SOCKET, SO_MARK, Int32(bitPattern: mark)) }
    if speaksFirst { try socket.set(Int32(IPPROTO_TCP), TCP_DEFER_ACCEPT, 1) }
    if let tuning { try tuning.apply(to: socket) }
    try connect(socket, to: address)
    return socket
  }

  /// The same with a socket of the family of `address` that has been opened already.
  package static func connect(
    _ socket: borrowing Descriptor, to address: SocketAddress
  ) throws(Errno) {
    try socket.set(Int32(IPPROTO_TCP), TCP_NODELAY, 1)
    let descriptor = socket.rawValue
    let result = address.withKernelAddress { clx_connect(descriptor, $0, $1) }
    if result != -EINPROGRESS { _ = try checked(result) }
  }

  /// Ends the sending direction: the peer reads the rest, then the end of the stream.
  package static func shutdownSending(_ socket: Int32) {
    // ENOTCONN: the peer has reset the connection, which the next read reports.
    _ = clx_shutdown(socket, Int32(SHUT_WR))
  }

  /// Delivers urgent data in its place in the stream (`SO_OOBINLINE`), so that no byte is lost.
  package static func receiveUrgentInline(_ socket: Int32) {
    var one: Int32 = 1
    _ = clx_set_option(socket, SOL_SOCKET, SO_OOBINLINE, &one, 4)
  }

  /// The shortest round trip that the kernel has seen on a connection of late, in microseconds
  /// (`tcpi_min_rtt`); nil if it has seen none, or if the socket is not TCP's.
  package static func leastRoundTrip(_ socket: Int32) -> Int? {
    let result = clx_least_round_trip(socket)
    return result > 0 ? result : nil
  }

  /// Bytes that a connection has carried, of its peer's and to it: what this host has received, whether
  /// anybody has read it or not, and what the peer has acknowledged. Nil if the socket is not TCP's, or the
  /// connection has not been accepted but made: the kernel counts that otherwise.
  package static func byteCounts(ofAccepted socket: Int32) -> (received: UInt64, sent: UInt64)? {
    var counts = clx_stream_counts()
    guard clx_read_stream_counts(socket, &counts) == 0 else { return nil }
    // The end of a stream has a place in the sequence, and counts as a byte (net/ipv4/tcp_input.c).
    let (isEnded, isEndAcknowledged) =
      switch Int(counts.state) {
      case Int(TCP_CLOSE_WAIT), Int(TCP_LAST_ACK), Int(TCP_CLOSING): (true, false)
      case Int(TCP_FIN_WAIT2): (false, true)
      case Int(TCP_TIME_WAIT), Int(TCP_CLOSE): (true, true)
      default: (false, false)
      }
    return (
      counts.received - min(counts.received, isEnded ? 1 : 0),
      counts.acknowledged - min(counts.acknowledged, isEndAcknowledged ? 1 : 0)
    )
  }

  /// Ends the kernel's own sizing of a connection's receive buffer. Does nothing without
  /// CAP_NET_ADMIN (`SO_RCVBUFFORCE`).
  /// - Parameter bytes: of the buffer, the kernel's bookkeeping included, and the most that the window
  ///   grows to.
  package static func fixReceiveBuffer(_ socket: Int32, bytes: Int32) {
    // The kernel doubles what it is given (socket(7)).
    var half = bytes / 2
    guard clx_set_option(socket, SOL_SOCKET, Int32(CLX_SO_RCVBUFFORCE), &half, 4) == 0 else {
      return
    }
    // A fixed buffer leaves the window at what it was.
    var window = bytes
    _ = clx_set_option(socket, Int32(IPPROTO_TCP), TCP_WINDOW_CLAMP, &window, 4)
  }

  /// The same for what is sent and not yet acknowledged (`SO_SNDBUFFORCE`).
  package static func fixSendBuffer(_ socket: Int32, bytes: Int32) {
    var half = bytes / 2
    _ = clx_set_option(socket, SOL_SOCKET, Int32(CLX_SO_SNDBUFFORCE), &half, 4)
  }

  /// The congestion control that paces what it sends, where the interface does not, by a timer for each packet
  /// (`tcp_pacing_check`); and what a connection has in its place: Reno (RFC 5681), which every kernel has,
  /// for everybody.
  package static let paced: StaticString = "bbr", unpaced: StaticString = "reno"

  /// Has a connection go on without pacing. The timers of one that began with it stay, but run shorter.
  /// - Returns: whether it was paced until now.
  package static func leavePacing(_ socket: Int32) -> Bool {
    hasCongestion(socket, paced) && setCongestion(socket, unpaced)
  }

  /// Has connections that a listener accepts begin without pacing, if they would be paced.
  package static func leavePacing(ofAcceptedBy listener: borrowing Descriptor) {
    _ = leavePacing(listener.rawValue)
  }

  /// Has a connection whose listener has left pacing be paced after all.
  package static func resumePacing(_ socket: Int32) { _ = setCongestion(socket, paced) }

  /// Whether pacing has been left for what a listener accepts, by whoever had it before.
  package static func hasLeftPacing(_ listener: borrowing Descriptor) -> Bool {
    guard hasCongestion(listener.rawValue, unpaced), let other = try? open(isIPv4: true) else {
      return false
    }
    return hasCongestion(other.rawValue, paced)
  }

  private static func hasCongestion(_ socket: Int32, _ wanted: StaticString) -> Bool {
    // TCP_CA_NAME_MAX (<net/tcp.h>).
    var name: [16 of UInt8] = .init(repeating: 0)
    var length = socklen_t(name.count)
    guard clx_get_option(socket, Int32(IPPROTO_TCP), TCP_CONGESTION, &name, &length) == 0 else {
      return false
    }
    for index in 0..<wanted.utf8CodeUnitCount where name[index] != wanted.utf8Start[index] {
      return false
    }
    return name[wanted.utf8CodeUnitCount] == 0
  }

  /// - Returns: whether the kernel has taken it.
  private static func setCongestion(_ socket: Int32, _ name: StaticString) -> Bool {
    let count = socklen_t(name.utf8CodeUnitCount)
    return clx_set_option(socket, Int32(IPPROTO_TCP), TCP_CONGESTION, name.utf8Start, count) == 0
  }
}

extension Descriptor {
  borrowing func set(_ level: Int32, _ name: Int32, _ value: Int32) throws(Errno) {
    var value = value
    _ = try checked(clx_set_option(rawValue, level, name, &value, 4))
  }

  /// The error that this socket has met since it was last asked (`SO_ERROR`), nil if none.
  package var pendingError: Errno? {
    var value: Int32 = 0
    var length: socklen_t = 4
    _ = clx_get_option(rawValue, SOL_SOCKET, SO_ERROR, &value, &length)
    return value == 0 ? nil : Errno(rawValue: value)
  }

  /// `getsockname(2)`; nil only for a socket that is not bound to IPv4 or IPv6.
  package var localAddress: SocketAddress? {
    SocketAddress.filled { clx_local_address(rawValue, $0, $1) }.address
  }

  /// `getpeername(2)`; nil for a socket that is not connected to IPv4 or IPv6.
  package var peerAddress: SocketAddress? {
    SocketAddress.filled { clx_peer_address(rawValue, $0, $1) }.address
  }

  /// Probes the peer when nothing has come from it for a while (`SO_KEEPALIVE`).
  /// - Parameter seconds: of the while (`TCP_KEEPIDLE`); nil: as the system has it, two hours.
  package borrowing func keepAlive(afterSeconds seconds: Int32? = nil) {
    var one: Int32 = 1
    _ = clx_set_option(rawValue, SOL_SOCKET, SO_KEEPALIVE, &one, 4)
    guard var seconds else { return }
    _ = clx_set_option(rawValue, Int32(IPPROTO_TCP), TCP_KEEPIDLE, &seconds, 4)
  }

  /// Makes the coming close send RST and drop what is unsent (`SO_LINGER` of zero).
  package borrowing func resetOnClose() {
    var linger = linger(l_onoff: 1, l_linger: 0)
    _ = clx_set_option(
      rawValue, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
  }
}

extension Descriptor {
  /// Waits until this socket is in one of the states of `interest`, or failed; false at `deadline`.
  /// For connections outside the data plane only: it blocks the thread.
  package borrowing func wait(for interest: Interest, until deadline: Instant) -> Bool {
    while true {
      let left = deadline.milliseconds(since: .now())
      let events = Int16(truncatingIfNeeded: interest.rawValue)
      let result = clx_poll(rawValue, events, Int32(clamping: left))
      if result > 0 { return true }
      if result == 0, left == 0 { return false }
    }
  }
}
