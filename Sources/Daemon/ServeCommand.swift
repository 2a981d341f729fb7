internal import Addressing
internal import DataPlane
internal import LinuxIO
package import Logging
internal import SOCKS

/// `sluice serve`: the embedded SOCKS5 server alone. Needs no privilege.
package struct ServeCommand {
  private let address: SocketAddress
  private let credentials: Credentials?
  private let relaysDatagrams: Bool
  private let log: Logger

  /// - Parameters:
  ///   - listen: address and port, `a.b.c.d:port` or `[v6]:port`.
  ///   - login: user name and password that clients must give, nil for none.
  ///   - relaysDatagrams: whether UDP ASSOCIATE is served beside CONNECT.
  package init(
    listen: String, login: (user: String, password: String)?, relaysDatagrams: Bool, log: Logger
  ) throws(CommandFailure) {
    guard let address = SocketAddress(listen) else {
      throw CommandFailure(
        "--listen \(listen): expected ADDRESS:PORT or [ADDRESS]:PORT", .usage)
    }
    self.address = address
    self.relaysDatagrams = relaysDatagrams
    self.log = log
    guard let login else {
      credentials = nil
      return
    }
    do {
      credentials = try Credentials(username: login.user, password: login.password)
    } catch {
      throw CommandFailure("user name and password: \(error)", .usage)
    }
  }

  /// Blocks until SIGINT or SIGTERM.
  package func run() throws(CommandFailure) {
    let descriptors = DescriptorLimit.raise()
    do {
      try StreamSocket.checkFree(address)
    } catch {
      throw CommandFailure(listen: address, error)
    }
    var configuration = DataPlaneConfiguration(
      workers: System.processors.count, listeners: [ListenerConfiguration(.socks, on: address)],
      descriptorLimit: descriptors)
    configuration.serverCredentials = credentials
    configuration.servesDatagrams = relaysDatagrams
    let supervisor = try startedUp { () throws(Errno) in
      try Supervisor(reporter: Reporter(log: log, upstream: "the target"))
    }
    let dataPlane: DataPlane
    do {
      dataPlane = try DataPlane(configuration, report: supervisor.post)
    } catch {
      throw CommandFailure(listen: error.address, error.errno)
    }
    try startedUp { () throws(Errno) in try dataPlane.start() }
    if credentials == nil, !address.address.isLoopback {
      log.warning(
        "anybody who reaches \(address) can use this server: give --user and --password-file",
        metadata: ["event": "open_server"])
    }
    log.notice(
      "serving SOCKS5 on \(address)",
      metadata: ["event": "ready", "listen": .string("\(address)")])
    supervisor.waitForEnd(of: dataPlane)
    dataPlane.stop()
    supervisor.summarise(dataPlane)
  }
}
