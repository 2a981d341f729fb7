internal import ArgumentParser
internal import Daemon
internal import Logging

struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Run the embedded SOCKS server alone: SOCKS5, SOCKS4 and SOCKS4a.")

  @Option(
    help: ArgumentHelp(
      "Address and port to listen on, 0 for any; [::] is every address of both families (default: 127.0.0.1:1080).",
      valueName: "address:port"))
  var listen: [String] = []

  @Option(help: "User name that clients must give.")
  var user: String?

  @Option(help: ArgumentHelp("File with the password on its first line.", valueName: "file"))
  var passwordFile: String?

  @Option(
    help: ArgumentHelp(
      "File of users that clients may be: USER:PASSWORD on each line, # begins a comment.",
      valueName: "file"))
  var usersFile: String?

  @Option(
    help: ArgumentHelp("Accept connections from these addresses alone.", valueName: "block"))
  var allowClient: [String] = []

  @Option(
    help: ArgumentHelp(
      "Reach these destinations alone: an address, a block, a name, *.NAME or *, each also with :PORT.",
      valueName: "destination"))
  var allowDestination: [String] = []

  @Option(
    help: ArgumentHelp(
      "Never reach these, whatever allows them.", valueName: "destination"))
  var denyDestination: [String] = []

  @Flag(inversion: .prefixedNo, help: "Relay datagrams, too (UDP ASSOCIATE).")
  var udp = true

  @Flag(inversion: .prefixedNo, help: "Let clients listen for a connection (BIND).")
  var bind = true

  @Option(help: ArgumentHelp("For a connection to a target (default: 10).", valueName: "seconds"))
  var connectTimeout: UInt32?

  @Option(
    help: ArgumentHelp(
      "For the connection that BIND waits for (default: 120).", valueName: "seconds")
  )
  var bindTimeout: UInt32?

  @Option(
    help: ArgumentHelp(
      "Where Prometheus reads metrics: unix:PATH, 127.0.0.1:PORT or [::1]:PORT (default: nowhere).",
      valueName: "place"))
  var metrics: String?

  @OptionGroup var logging: LogOptions

  func run() throws {
    var options = ServeCommand.Options(listen: listen)
    let log = try logging.logger()
    options.login = try login(log)
    options.usersFile = usersFile
    options.clients = allowClient
    options.allowedDestinations = allowDestination
    options.deniedDestinations = denyDestination
    options.relaysDatagrams = udp
    options.listens = bind
    options.connectTimeout = connectTimeout
    options.bindTimeout = bindTimeout
    options.metrics = metrics
    try ServeCommand(options, log: log).run()
  }

  func validate() throws {
    for (option, seconds) in [
      ("--connect-timeout", connectTimeout), ("--bind-timeout", bindTimeout),
    ] where seconds == 0 {
      throw ValidationError("\(option) 0: expected at least 1")
    }
  }

  private func login(_ log: Logger) throws -> (user: String, password: [UInt8])? {
    switch (user, passwordFile) {
    case (nil, nil): return nil
    case (let user?, let file?): return (user, try Secret.firstLine(of: file, log))
    case (_, nil), (nil, _): throw ValidationError("--user and --password-file go together")
    }
  }
}
