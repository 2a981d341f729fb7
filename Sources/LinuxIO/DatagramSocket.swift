package import Addressing
internal import CLinux

/// A UDP socket, always non-blocking and close-on-exec.
package enum DatagramSocket {
  /// An unbound socket of the family of `address`.
  package static func open(for address: SocketAddress) throws(Errno) -> Descriptor {
    Descriptor(owning: try checked(clx_datagram_socket(address.kernelFamily)))
  }

  /// How a socket is made.
  package struct Options: Sendable {
    /// Mark of the packets that are sent (`SO_MARK`); needs CAP_NET_ADMIN.
    package var mark: UInt32?
    /// Several sockets share the port, and the kernel spreads clients over them.
    package var sharesPort = false
    /// How much may wait to be received (`SO_RCVBUFFORCE`); nil: as the system has it. Needs
    /// CAP_NET_ADMIN, without which the system's limit holds.
    package var receiveBytes: Int32?

    package init(mark: UInt32? = nil, sharesPort: Bool = false, receiveBytes: Int32? = nil) {
      self.mark = mark
      self.sharesPort = sharesPort
      self.receiveBytes = receiveBytes
    }
  }

  /// A socket that gets datagrams for any address (TPROXY), joined where the kernel can (`UDP_GRO`), and
  /// tells their destinations (`IP_RECVORIGDSTADDR`) and how many it had no room for (`SO_RXQ_OVFL`);
  /// needs CAP_NET_ADMIN.
  package static func openTransparent(
    on address: SocketAddress, _ options: Options = Options()
  ) throws(Errno) -> Descriptor {
    let socket = try open(for: address)
    let isIPv4 = address.address.isIPv4
    if !isIPv4 { try socket.set(Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
    try socket.setTransparent(isIPv4: isIPv4)
    if isIPv4 {
      try socket.set(Int32(IPPROTO_IP), IP_ORIGDSTADDR, 1)
    } else {
      try socket.set(Int32(IPPROTO_IPV6), Int32(CLX_IPV6_ORIGDSTADDR), 1)
    }
    try socket.set(SOL_SOCKET, Int32(CLX_SO_RXQ_OVFL), 1)
    try socket.prepare(options)
    try socket.bind(to: address)
    return socket
  }

  /// A socket that is bound to `address` and talks to anybody.
  package static func bind(
    to address: SocketAddress, _ options: Options
  ) throws(Errno) -> Descriptor {
    let socket = try open(for: address)
    if !address.address.isIPv4 { try socket.set(Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
    try socket.allowFragments(isIPv4: address.address.isIPv4)
    try socket.prepare(options)
    try socket.bind(to: address)
    return socket
  }

  /// A socket that talks to `address` alone: the kernel drops what comes from others.
  package static func connect(
    to address: SocketAddress, _ options: Options
  ) throws(Errno) -> Descriptor {
    let socket = try open(for: address)
    try socket.allowFragments(isIPv4: address.address.isIPv4)
    try socket.prepare(options)
    _ = try checked(address.withKernelAddress { clx_connect(socket.rawValue, $0, $1) })
    return socket
  }

  /// Has a bound socket talk to `address` alone from now on. What others have sent before may be
  /// waiting to be received.
  package static func connect(
    _ socket: borrowing Descriptor, to address: SocketAddress
  ) throws(Errno) {
    let descriptor = socket.rawValue
    _ = try checked(address.withKernelAddress { clx_connect(descriptor, $0, $1) })
  }

  /// A socket for sending alone, from any address and port, whoever else holds them: what is sent
  /// begins with the UDP header, and the kernel makes the IP header and fragments. Needs CAP_NET_RAW.
  ///
  /// It is bound to an address to which nothing is ever sent, or the kernel would give it a copy of
  /// every datagram that arrives.
  package static func openRaw(isIPv4: Bool, mark: UInt32?) throws(Errno) -> Descriptor {
    let unused = SocketAddress(
      // Dummy address (RFC 7600, section 4.8), and discard-only block (RFC 6666).
      isIPv4 ? .v4(IPv4Address(bits: 0xC000_0008)) : .v6(IPv6Address(high: 0x0100 << 48, low: 1)), 0
    )
    let socket = Descriptor(owning: try checked(clx_raw_datagram_socket(unused.kernelFamily)))
    try socket.setTransparent(isIPv4: isIPv4)
    try socket.allowFragments(isIPv4: isIPv4)
    if !isIPv4 {
      // Where in the payload the kernel puts the checksum: `uh_sum` of the UDP header.
      try socket.set(Int32(IPPROTO_IPV6), IPV6_CHECKSUM, 6)
    }
    if let mark { try socket.set(SOL_SOCKET, SO_MARK, Int32(bitPattern: mark)) }
    try socket.bind(to: unused)
    return socket
  }

  /// Throws what stands in the way of receiving on `address`: EADDRINUSE if somebody does, also one
  /// who would share the port, EADDRNOTAVAIL or EAFNOSUPPORT if this host lacks it.
  package static func checkFree(_ address: SocketAddress) throws(Errno) {
    let socket = try open(for: address)
    if !address.address.isIPv4 { try socket.set(Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
    try socket.bind(to: address)
  }

  /// Sends one datagram (`sendto(2)`).
  package static func send(
    _ bytes: [UInt8], from socket: borrowing Descriptor, to address: SocketAddress
  ) throws(Errno) {
    var writer = DatagramWriter()
    writer.begin(to: address)
    let result = bytes.withUnsafeBytes { bytes in
      writer.append(bytes)
      return writer.send(by: socket.rawValue, from: 0)
    }
    if case .failed(let error) = result { throw error }
  }
}

extension Descriptor {
  fileprivate borrowing func prepare(_ options: DatagramSocket.Options) throws(Errno) {
    try set(Int32(IPPROTO_UDP), Int32(CLX_UDP_GRO), 1)
    if options.sharesPort { try set(SOL_SOCKET, SO_REUSEPORT, 1) }
    if let mark = options.mark { try set(SOL_SOCKET, SO_MARK, Int32(bitPattern: mark)) }
    guard var bytes = options.receiveBytes else { return }
    if clx_set_option(rawValue, SOL_SOCKET, Int32(CLX_SO_RCVBUFFORCE), &bytes, 4) < 0 {
      try set(SOL_SOCKET, SO_RCVBUF, bytes)
    }
  }

  fileprivate borrowing func bind(to address: SocketAddress) throws(Errno) {
    let descriptor = rawValue
    _ = try checked(address.withKernelAddress { clx_bind(descriptor, $0, $1) })
  }

  fileprivate borrowing func setTransparent(isIPv4: Bool) throws(Errno) {
    if isIPv4 {
      try set(Int32(IPPROTO_IP), IP_TRANSPARENT, 1)
    } else {
      try set(Int32(IPPROTO_IPV6), Int32(CLX_IPV6_TRANSPARENT), 1)
    }
  }

  /// Datagrams that a link on the way cannot carry whole are cut, not dropped: who sent them does not
  /// learn of it here.
  fileprivate borrowing func allowFragments(isIPv4: Bool) throws(Errno) {
    if isIPv4 {
      try set(Int32(IPPROTO_IP), IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    } else {
      try set(Int32(IPPROTO_IPV6), IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT)
    }
  }
}
