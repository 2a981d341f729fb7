internal import Addressing
internal import Configuration
internal import DataPlane
internal import Glibc
internal import LinuxIO
package import Logging
internal import SOCKS

/// `sluice serve`: the embedded SOCKS5 server alone. Needs no privilege.
package struct ServeCommand {
  /// What the server is to do, as it is written on the command line.
  package struct Options: Sendable {
    /// Addresses and ports, `a.b.c.d:port` or `[v6]:port`. `[::]` stands for all addresses of both families;
    /// port 0 is one of the kernel's choice.
    /// Empty: the sockets that a service manager has opened, else port 1080 of the loopback.
    package var listen: [String]
    /// User name and password that clients must give.
    package var login: (user: String, password: [UInt8])?
    /// File of further ones: `UsersFile`.
    package var usersFile: String?
    /// Blocks of addresses: `ServerAccess.clients`.
    package var clients: [String] = []
    /// `DestinationPattern`.
    package var allowedDestinations: [String] = []
    package var deniedDestinations: [String] = []
    /// Whether UDP ASSOCIATE and BIND are served beside CONNECT.
    package var relaysDatagrams = true
    package var listens = true
    /// Seconds; nil: as `Timeouts` has it.
    package var connectTimeout: UInt32?
    package var bindTimeout: UInt32?
    /// `MetricsPlace`; nil: nowhere.
    package var metrics: String?

    package init(listen: [String]) { self.listen = listen }
  }

  private static let defaultListen = "127.0.0.1:1080"
  /// How long flows that are open may take to end, while new ones wait for the next server.
  private static let handoverPatience = Timeout.seconds(1)

  private let addresses: [SocketAddress]
  private let logins: Logins?
  private let access: ServerAccess
  private let metricsPlace: MetricsPlace?
  private let options: Options
  private let log: Logger

  package init(_ options: Options, log: Logger) throws(CommandFailure) {
    self.options = options
    self.log = log
    addresses = try Self.addresses(
      options.listen.isEmpty ? [Self.defaultListen] : options.listen)
    logins = try Self.logins(options)
    access = try Self.access(options)
    metricsPlace = try Self.metricsPlace(options)
  }

  /// Blocks until SIGINT or SIGTERM.
  package func run() throws(CommandFailure) {
    let activated = try ActivatedSockets()
    let manager = ServiceManager(log: log)
    let metrics = try MetricsServer.open(
      at: metricsPlace, group: Accounts.group(named: RunCommand.usualControlGroup) ?? 0)
    let descriptors = DescriptorLimit.raise()
    let ports = try ReservedPorts(
      for: activated.addresses.isEmpty ? available() : agreed(activated.addresses))
    let addresses = ports.addresses
    var configuration = DataPlaneConfiguration(
      workers: System.processors.count,
      listeners: addresses.map { ListenerConfiguration(.socks, on: $0) },
      descriptorLimit: descriptors)
    if !activated.addresses.isEmpty { try activated.hand(to: &configuration) }
    configuration.serverLogins = logins
    configuration.servesDatagrams = options.relaysDatagrams
    configuration.servesListeners = options.listens
    configuration.access = access
    if let seconds = options.connectTimeout { configuration.timeouts.connect = .seconds(seconds) }
    if let seconds = options.bindTimeout { configuration.timeouts.peer = .seconds(seconds) }
    let supervisor = try startedUp { () throws(Errno) in
      try Supervisor(reporter: Reporter(log: log, upstream: "the target"))
    }
    let dataPlane: DataPlane
    do {
      dataPlane = try DataPlane(configuration, report: supervisor.post)
    } catch {
      throw CommandFailure(listen: error.address, error.errno)
    }
    ports.release()
    try startedUp { () throws(Errno) in try dataPlane.start() }
    let start = time(nil)
    try metrics?.start(log) { MetricsReading(of: dataPlane, since: start, $0, nil) }
    defer { metrics?.stop() }
    announce(addresses)
    supervisor.serve(manager)
    manager.tellReady("serving SOCKS5 and SOCKS4 on \(Self.list(addresses))")
    supervisor.waitForEnd(of: dataPlane)
    manager.tellStopping("open flows end")
    if !activated.addresses.isEmpty {
      // New clients wait for the next server. Those that were let in just now get what they have asked for.
      dataPlane.drain(acceptsWaiting: false)
      supervisor.waitForDrain(of: dataPlane, timeout: Self.handoverPatience) {
        !dataPlane.isListening && dataPlane.snapshot().isIdle
      }
    }
    dataPlane.stop()
    supervisor.summarise(dataPlane)
  }

  private func announce(_ addresses: [SocketAddress]) {
    let isOpen = logins == nil && access.clients.isEmpty
    if isOpen, let address = addresses.first(where: { !$0.address.isLoopback }) {
      log.warning(
        """
        anybody who reaches \(address) can use this server: give --user and --password-file, \
        --users-file, or --allow-client
        """, metadata: ["event": "open_server"])
    }
    let places = Self.list(addresses)
    log.notice(
      "serving SOCKS5 and SOCKS4 on \(places)",
      metadata: ["event": "ready", "listen": .string(places)])
  }

  private static func list(_ addresses: [SocketAddress]) -> String {
    addresses.map { "\($0)" }.joined(separator: ", ")
  }

  /// Where a service manager listens for us, which is where the user wants it if that is said at all.
  private func agreed(_ handed: [SocketAddress]) throws(CommandFailure) -> [SocketAddress] {
    guard options.listen.isEmpty || Set(addresses) == Set(handed) else {
      throw CommandFailure(
        "--listen \(Self.list(addresses)): the service manager listens on \(Self.list(handed)): "
          + "leave --listen out", .usage)
    }
    return handed
  }

  /// Where it is listened in fact: a host that lacks one of the families has the other alone of what stands
  /// for both.
  private func available() throws(CommandFailure) -> [SocketAddress] {
    var available: [SocketAddress] = []
    for address in addresses {
      do {
        try StreamSocket.checkFree(address)
        available.append(address)
      } catch {
        let isLacking = error == .familyNotSupported || error == .addressNotAvailable
        let isLast = address == addresses.last && available.isEmpty
        guard isLacking, address.address.isUnspecified, !isLast else {
          throw CommandFailure(listen: address, error)
        }
      }
    }
    return available
  }

  // MARK: Arguments

  private static func addresses(_ listen: [String]) throws(CommandFailure) -> [SocketAddress] {
    var addresses: [SocketAddress] = []
    for text in listen {
      guard let address = SocketAddress(text) else {
        throw CommandFailure(
          "--listen \(text): expected ADDRESS:PORT or [ADDRESS]:PORT", .usage)
      }
      // Two sockets: on one of both families IPv4 clients would look like IPv6.
      let both =
        address.address == .v6(.any)
        ? [address, SocketAddress(.v4(.any), address.port)] : [address]
      for one in both where !addresses.contains(one) { addresses.append(one) }
    }
    return addresses
  }

  private static func logins(_ options: Options) throws(CommandFailure) -> Logins? {
    var users: [Credentials] = []
    if let login = options.login {
      do {
        users.append(try Credentials(username: login.user.utf8, password: login.password))
      } catch {
        throw CommandFailure("user name and password: \(error)", .usage)
      }
    }
    if let path = options.usersFile { users += try UsersFile.users(of: path) }
    return Logins(users)
  }

  private static func metricsPlace(_ options: Options) throws(CommandFailure) -> MetricsPlace? {
    guard let text = options.metrics else { return nil }
    do {
      return try MetricsPlace(text)
    } catch {
      throw CommandFailure("\(error)", .usage)
    }
  }

  private static func access(_ options: Options) throws(CommandFailure) -> ServerAccess {
    var access = ServerAccess()
    for text in options.clients {
      guard let block = CIDR(text) else {
        throw CommandFailure(
          "--allow-client \(text): expected ADDRESS or ADDRESS/LENGTH with no bit behind it", .usage
        )
      }
      access.clients.append(block)
    }
    access.allowed = try patterns("--allow-destination", options.allowedDestinations)
    access.denied = try patterns("--deny-destination", options.deniedDestinations)
    return access
  }

  private static func patterns(
    _ option: String, _ texts: [String]
  ) throws(CommandFailure) -> [DestinationPattern] {
    var patterns: [DestinationPattern] = []
    for text in texts {
      guard let pattern = DestinationPattern(text) else {
        throw CommandFailure(
          """
          \(option) \(text): expected an address, ADDRESS/LENGTH, a name, *.NAME or *, and :PORT or \
          :FIRST-LAST behind it where it is not for all ports ([ADDRESS/LENGTH]:PORT with IPv6)
          """, .usage)
      }
      patterns.append(pattern)
    }
    return patterns
  }
}
