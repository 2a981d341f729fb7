internal import ArgumentParser
internal import Configuration

/// How captured traffic is carried; shared by `run`, `exec` and `shell`.
struct EngineOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("Threads that relay (default: one per processor).", valueName: "count"))
  var workers: Int?

  @Option(
    help: ArgumentHelp("For the connection to the upstream (default: 10).", valueName: "seconds"))
  var connectTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "Whether the upstream hears that a program has stopped sending: at once (propagate, the default), or not before it has ended itself (hold), for servers that would drop the rest of the answer, or what suits it (auto), which is tried at the start.",
      valueName: "what"))
  var halfClose: String?

  @Option(
    help: ArgumentHelp(
      "Connections that are kept ready with each SOCKS5 upstream at most, past its password, so that a flow waits for the reply alone (default: 0).",
      valueName: "count"))
  var pool: Int?

  @Option(
    help: ArgumentHelp(
      "Send what a program has said along with the request, where that goes out in one write: on, off (the default), or auto, where the upstream is found to pass it on. Some servers drop it, which `sluice probe` tells.",
      valueName: "what"))
  var earlyData: String?

  @Option(
    help: ArgumentHelp(
      "How often an upstream is asked whether it lives, or off (default: one of several every 30, or 10 with --balance fastest, a lone one as --on-upstream-down open needs it).",
      valueName: "seconds"))
  var probeInterval: String?

  @Option(
    help: ArgumentHelp(
      "What it is asked to connect to for that (default: its own host, of which any reply will do).",
      valueName: "host:port"))
  var probeTarget: String?

  @Option(
    help: ArgumentHelp(
      "For it to answer that (default: as --connect-timeout).", valueName: "seconds"))
  var probeTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "So many such questions without an answer mean that it is down (default: 1).",
      valueName: "count"))
  var probeFailures: Int?

  @Flag(
    help:
      "Send the first bytes to an upstream with the SYN, where it has allowed that (TCP Fast Open)."
  )
  var tcpFastOpen = false

  @Option(
    help: ArgumentHelp(
      "For the upstream to acknowledge what it is sent (TCP_USER_TIMEOUT; default: as the system has it).",
      valueName: "seconds"))
  var userTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "Congestion control towards upstreams (default: the system's, but not BBR over short ways).",
      valueName: "name"))
  var congestion: String?

  @Option(help: ArgumentHelp("For the upstream's reply (default: 60).", valueName: "seconds"))
  var handshakeTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "For a flow without a byte either way (default: 7440).", valueName: "seconds"))
  var idleTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "For a flow without a byte after one side has ended (default: 600).", valueName: "seconds"))
  var halfCloseTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "For a sender of datagrams whom nobody has answered (default: 30).", valueName: "seconds"))
  var udpUnrepliedTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "For a sender of datagrams without a datagram either way (default: 180).",
      valueName: "seconds"))
  var udpTimeout: Int?

  @Option(
    help: ArgumentHelp("The same for one of DNS queries alone (default: 10).", valueName: "seconds")
  )
  var dnsTimeout: Int?

  @Option(
    help: ArgumentHelp(
      "Senders of datagrams, each an address and a port, at once (default: 8192).",
      valueName: "count"))
  var udpAssociations: Int?

  @Option(
    help: ArgumentHelp("The same of one address (default: 1024).", valueName: "count"))
  var udpPerClient: Int?

  @Option(
    help: ArgumentHelp(
      "Where the upstream takes datagrams: where it says, repaired if that cannot be (auto, the default), or not (reported), where it takes connections (control), or an address.",
      valueName: "where"))
  var udpRelay: String?

  func fill(_ options: inout Options) {
    options.workers = workers
    options.halfClose = halfClose
    options.pool = pool
    options.earlyData = earlyData
    options.probeInterval = probeInterval
    options.probeTarget = probeTarget
    options.probeTimeout = probeTimeout
    options.probeFailures = probeFailures
    options.tcpFastOpen = tcpFastOpen
    options.userTimeout = userTimeout
    options.congestion = congestion
    options.connectTimeout = connectTimeout
    options.handshakeTimeout = handshakeTimeout
    options.idleTimeout = idleTimeout
    options.halfCloseTimeout = halfCloseTimeout
    options.udpUnrepliedTimeout = udpUnrepliedTimeout
    options.udpTimeout = udpTimeout
    options.dnsTimeout = dnsTimeout
    options.udpAssociations = udpAssociations
    options.udpPerClient = udpPerClient
    options.udpRelay = udpRelay
  }
}
