internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Expose: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "expose",
    abstract: "Publish a local service through the upstream, which listens for it (SOCKS BIND).",
    discussion: """
      It tells where the service is reached: at the upstream's address, at the port of the service if the \
      upstream grants it. Each connection from there is led to the service, and the upstream is asked for \
      the next one; meanwhile others are refused for a moment.
      """)

  @Argument(
    help: ArgumentHelp(
      "The service: a port of 127.0.0.1, or host:port.", valueName: "[host:]port"))
  var service: String

  @Argument(
    help: ArgumentHelp(
      "A SOCKS server with BIND: socks5://[user[:password]@]host[:port], socks5://[user[:password]@]/path of a Unix socket, socks4://[user@]host[:port] or socks4a://; or several servers joined by commas, each reached through the one before it, of which the last is such a one.",
      discussion: "Without it SLUICE_UPSTREAM of the environment is used."))
  var upstream: String?

  @Option(
    name: .customLong("from"),
    help: ArgumentHelp("Let connections come from this address alone.", valueName: "address"))
  var peer: String?

  @Option(
    help: ArgumentHelp(
      "The port to ask the upstream for (default: that of the service); 0: any.",
      valueName: "port"))
  var publicPort: UInt16?

  @OptionGroup var password: PasswordOptions

  @Option(
    help: ArgumentHelp(
      "For the connections to the upstream and to the service (default: 10).", valueName: "seconds")
  )
  var connectTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "For the upstream to say where it listens (default: 60).", valueName: "seconds"))
  var handshakeTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "For a connection without a byte either way (default: 7440).", valueName: "seconds"))
  var idleTimeout: Int?

  @OptionGroup var logging: LogOptions

  func run() throws {
    var settings = Options()
    settings.machine = true
    settings.upstream = upstream
    settings.passwordFile = password.file
    settings.connectTimeout = connectTimeout
    settings.handshakeTimeout = handshakeTimeout
    settings.idleTimeout = idleTimeout
    let log = try logging.logger()
    try UpstreamSecrets().fill(&settings, log: log)
    var options = ExposeCommand.Options(service: service)
    options.peer = peer
    options.publicPort = publicPort
    try ExposeCommand(options, Configuration(settings), log: log).run()
  }
}
