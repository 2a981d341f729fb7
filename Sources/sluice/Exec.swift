internal import ArgumentParser
internal import Configuration
internal import Daemon

struct Exec: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exec",
    abstract: "Run one program, and all that it starts, through the upstream; needs no privilege.",
    usage: "sluice exec [<options>] [<upstream>] -- <program> [<argument> ...]",
    discussion: """
      The program runs in a network namespace of its own, from which nothing leads out but the \
      upstream: all its TCP, UDP and DNS goes there. Otherwise it is an ordinary child: terminal, \
      signals, files, user and exit status are as without Sluice.
      """)

  @OptionGroup var program: ProgramArguments

  @Argument(parsing: .postTerminator, help: "The program and its arguments, behind two dashes.")
  var command: [String] = []

  func run() throws { try program.run(command) }

  /// Whether the program may have been taken for an upstream.
  static func lacksDashes(_ arguments: [String]) -> Bool {
    arguments.dropFirst().first == "exec" && !arguments.contains("--")
  }
}

struct Shell: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "shell",
    abstract: "The same with your shell.",
    discussion: """
      SLUICE in its environment names the upstream; prompts that show debian_chroot show sluice.
      """)

  @OptionGroup var program: ProgramArguments

  func run() throws { try program.run([UserShell.path], environment: UserShell.hint) }
}

/// What `exec` and `shell` have in common.
struct ProgramArguments: ParsableArguments {
  @Argument(
    help: ArgumentHelp(
      "Where everything goes: socks5://[user[:password]@]host[:port], socks5://[user[:password]@]/path of a Unix socket, http://[user[:password]@]host[:port] of a proxy with CONNECT (port 8080 unless given), socks4://[user@]host[:port] or socks4a://, several of these joined by commas, each reached through the one before it, embedded, or direct for no upstream at all.",
      discussion:
        "Without it SLUICE_UPSTREAM of the environment is used, or else the embedded SOCKS5 server, which connects directly."
    ))
  var upstream: String?

  @OptionGroup var group: GroupOptions

  @Option(
    help: ArgumentHelp(
      "Make this port of this host's loopback lead to the program's port of the same number, or to INSIDE.",
      valueName: "port[:inside]"))
  var publish: [String] = []

  @Option(
    help: ArgumentHelp(
      "Let the program reach this port of this host's loopback as its own.", valueName: "port"))
  var hostLoopback: [String] = []

  @Option(
    name: .customLong("preserve-fds"),
    help: ArgumentHelp(
      "Descriptors that the program inherits beside 0 to 2: so many from 3 on (default: 0).",
      valueName: "count"))
  var preserveDescriptors: Int?

  @Option(
    help: ArgumentHelp(
      "How long to serve what the program leaves running when it ends (default: until the last of it ends).",
      valueName: "seconds"))
  var linger: Int?

  @Flag(help: "Tell at the end what the program talked to.")
  var audit = false

  @Option(help: ArgumentHelp("Write that to a file.", valueName: "file"))
  var auditFile: String?

  @Option(
    help: ArgumentHelp(
      "UDP: proxy or reject (default: proxy, or reject where the upstream has none).",
      valueName: "what"))
  var udp: String?

  @Option(
    help: ArgumentHelp(
      "QUIC, which is UDP to port 443: proxy like other UDP (the default), or reject, so that TCP takes its place.",
      valueName: "what"))
  var quic: String?

  @Option(
    help: ArgumentHelp(
      "How DNS goes on: udp or tcp (default: udp, or tcp where the upstream has no UDP); off: it is like any other traffic.",
      valueName: "how"))
  var dns: String?

  @Option(
    help: ArgumentHelp("Send all DNS to this resolver.", valueName: "address[:port]"))
  var dnsServer: String?

  @Option(help: ArgumentHelp("IPv6: proxy (the default) or reject.", valueName: "what"))
  var ipv6: String?

  @Flag(
    help: ArgumentHelp(
      "A running sluice run carries it all to its upstream, and not this process.",
      discussion: "Whoever may use its control socket, root and the group sluice, can do that."))
  var daemon = false

  @Option(
    help: ArgumentHelp(
      "Where that has its control socket (default: \(Configuration.defaultControl)).",
      valueName: "path"))
  var control: String?

  @OptionGroup var password: PasswordOptions

  @OptionGroup var engine: EngineOptions

  @Option(help: "Log level: debug, info, notice, warning or error.")
  var logLevel = "warning"

  @Flag(help: "Log one JSON object per line; the same for what is told at the end.")
  var json = false

  /// - Parameter environment: set for the program.
  func run(_ command: [String], environment: [String: String] = [:]) throws {
    var options = ProgramOptions()
    options.engine.upstream = upstream
    group.fill(&options.engine)
    options.engine.udp = udp
    options.engine.quic = quic
    options.engine.dns = dns
    options.engine.dnsServer = dnsServer
    options.engine.ipv6 = ipv6
    engine.fill(&options.engine)
    options.command = command
    options.environment = environment
    options.publish = publish
    options.hostLoopback = hostLoopback
    options.preserveDescriptors = preserveDescriptors
    options.linger = linger
    options.audit = audit
    options.auditFile = auditFile
    options.daemon = daemon
    options.engine.control = control
    options.engine.passwordFile = password.file
    let log = try StderrLog.logger(level: logLevel, isJSON: json)
    // Whatever is used of them, the program does not inherit them.
    let secrets = UpstreamSecrets()
    if !daemon { try secrets.fill(&options.engine, log: log) }
    try ExecCommand(ProgramConfiguration(options), log: log, isJSON: json).run()
  }
}
