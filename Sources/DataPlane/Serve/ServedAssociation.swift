internal import Addressing
internal import LinuxIO

/// What a UDP ASSOCIATE of the embedded server has besides its control connection:
///
///     client ◀──header and payload──▶ relay ═══ exits, one per family ◀──payload──▶ any target
///
/// The exits are not connected: all targets see the client at the same address and port, and anybody
/// can answer there (RFC 4787, endpoint-independent mapping and filtering).
final class ServedAssociation {
  /// How much may wait in each socket while its worker is busy with others.
  private static let receiveBytes: Int32 = 1 << 20

  /// Bound to the address at which the client has reached us, connected to it once it is known.
  let relay: Descriptor
  /// Where the client is to send its datagrams.
  let bound: SocketAddress
  var relayLimit = SegmentLimit()

  private(set) var exitV4: Descriptor?
  private(set) var exitV6: Descriptor?
  private var limitV4 = SegmentLimit()
  private var limitV6 = SegmentLimit()

  var names = ServedNames()
  /// Descriptors of the budget that it holds, besides those of its session.
  var exitDescriptors = 0

  /// The client's host is whoever made the control connection.
  private let host: IPAddress
  private(set) var client: SocketAddress?

  /// - Parameters:
  ///   - local: the address at which the client has reached us.
  ///   - declared: what it says it will send from. Its port counts if the address can be the client's;
  ///     behind a translator neither can be known.
  init(
    local: IPAddress, host: IPAddress, declared: Endpoint, mark: UInt32?
  ) throws(Errno) {
    self.host = host
    relay = try DatagramSocket.bind(
      to: SocketAddress(local, 0),
      DatagramSocket.Options(mark: mark, receiveBytes: Self.receiveBytes))
    guard let bound = relay.localAddress else { throw .addressNotAvailable }
    self.bound = bound
    guard case .address(let address) = declared, address.port != 0,
      address.address.isUnspecified || address.unmapped.address == host
    else { return }
    try connect(to: SocketAddress(host, address.port))
  }

  // MARK: The client

  /// Whether this is the client, or may be as long as its port is not known.
  func mayBeClient(_ source: SocketAddress) -> Bool {
    client.map { $0 == source } ?? (source.address == host)
  }

  /// From now on this is the client, and the kernel drops what comes from others.
  func connect(to client: SocketAddress) throws(Errno) {
    guard self.client == nil else { return }
    try DatagramSocket.connect(relay, to: client)
    self.client = client
  }

  // MARK: Exits

  func exit(isIPv4: Bool) -> Int32? { isIPv4 ? exitV4?.rawValue : exitV6?.rawValue }

  func limit(isIPv4: Bool) -> SegmentLimit { isIPv4 ? limitV4 : limitV6 }

  func setLimit(_ limit: SegmentLimit, isIPv4: Bool) {
    if isIPv4 { limitV4 = limit } else { limitV6 = limit }
  }

  /// Opens the exit of a family, on a port of the kernel's choice, and has `epoll` watch it.
  func openExit(
    isIPv4: Bool, mark: UInt32?, epoll: borrowing Epoll, token: Token
  ) throws(Errno) -> Int32 {
    let socket = try DatagramSocket.bind(
      to: SocketAddress(isIPv4 ? .v4(.any) : .v6(.any), 0),
      DatagramSocket.Options(mark: mark, receiveBytes: Self.receiveBytes))
    let descriptor = socket.rawValue
    try epoll.add(descriptor, .readable, token: token.rawValue)
    if isIPv4 { exitV4 = consume socket } else { exitV6 = consume socket }
    return descriptor
  }
}
