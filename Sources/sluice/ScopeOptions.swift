internal import ArgumentParser
internal import Configuration
internal import Daemon

/// What is captured and where it goes; shared by `run` and `rules`.
struct ScopeOptions: ParsableArguments {
  @Argument(
    help: ArgumentHelp(
      "Where captured traffic goes: socks5://[user[:password]@]host[:port], socks5://[user[:password]@]/path of a Unix socket, http://[user[:password]@]host[:port] of a proxy with CONNECT (port 8080 unless given), socks4://[user@]host[:port] or socks4a://, several of these joined by commas, each reached through the one before it, embedded, or direct for no upstream at all.",
      discussion:
        "Without it SLUICE_UPSTREAM of the environment is used, or else the embedded SOCKS5 server, which connects directly."
    ))
  var upstream: String?

  @OptionGroup var group: GroupOptions

  @Option(
    name: .customLong("rule"),
    help: ArgumentHelp(
      "Where captured flows go that have these properties: words KEY=VALUE,… of the keys protocols (tcp, udp), ports, addresses, sources, uids, names (looked up by it) and name (of the rule), and to=NAME of an upstream, default, direct or reject. May be repeated; the first that holds decides.",
      valueName: "rule"))
  var rules: [String] = []

  @Flag(help: "Capture what this host itself sends; implied by the choices of it that follow.")
  var machine = false

  @Option(
    name: .customLong("uid"),
    help: ArgumentHelp("… of this user alone: name, number or range.", valueName: "user"))
  var users: [String] = []

  @Option(
    name: .customLong("except-uid"), help: ArgumentHelp("… not of this user.", valueName: "user"))
  var exceptUsers: [String] = []

  @Option(
    name: .customLong("gid"),
    help: ArgumentHelp("… of this group alone: name, number or range.", valueName: "group"))
  var groups: [String] = []

  @Option(
    name: .customLong("except-gid"), help: ArgumentHelp("… not of this group.", valueName: "group"))
  var exceptGroups: [String] = []

  @Option(
    name: .customLong("cgroup"),
    help: ArgumentHelp(
      "… of this control group alone: a path, or a systemd unit or slice.", valueName: "cgroup"))
  var controlGroups: [String] = []

  @Option(
    name: .customLong("except-cgroup"),
    help: ArgumentHelp("… not of this control group.", valueName: "cgroup"))
  var exceptControlGroups: [String] = []

  @Option(
    name: .customLong("out-interface"),
    help: ArgumentHelp("… that would leave by this interface alone.", valueName: "interface"))
  var outputInterfaces: [String] = []

  @Option(
    name: .customLong("except-out-interface"),
    help: ArgumentHelp("… that would leave by another interface.", valueName: "interface"))
  var exceptOutputInterfaces: [String] = []

  @Option(
    name: .customLong("gateway"),
    help: ArgumentHelp(
      "Capture what arrives on this interface: a name, the beginning of one (docker*), or group:N.",
      valueName: "interface"))
  var gateways: [String] = []

  @Option(
    name: .customLong("from"),
    help: ArgumentHelp("… from this address or block alone.", valueName: "cidr"))
  var sources: [String] = []

  @Option(
    name: .customLong("except-from"),
    help: ArgumentHelp("… not from this address or block.", valueName: "cidr"))
  var exceptSources: [String] = []

  @Option(
    name: .customLong("mac"),
    help: ArgumentHelp("… from this hardware address alone.", valueName: "mac"))
  var hardwareAddresses: [String] = []

  @Option(
    name: .customLong("except-mac"),
    help: ArgumentHelp("… not from this hardware address.", valueName: "mac"))
  var exceptHardwareAddresses: [String] = []

  @Option(
    help: ArgumentHelp(
      "How TCP is captured: redirect or tproxy (default: tproxy).",
      valueName: "how"))
  var tcp: String?

  @Option(
    help: ArgumentHelp(
      "Local port of the redirect listener; the tproxy listener has the next one (default: \(Configuration.defaultPort)).",
      valueName: "port"))
  var port: Int?

  @Option(
    help: ArgumentHelp(
      "Leave connections to this address or block alone, besides private and special ranges.",
      valueName: "cidr"))
  var bypass: [String] = []

  @Option(
    name: .customLong("bypass-file"),
    help: ArgumentHelp(
      "The same for each line of this file; SIGHUP reads it again.", valueName: "file"))
  var bypassFiles: [String] = []

  @Option(
    name: .customLong("bypass-port"),
    help: ArgumentHelp("Leave connections to this port or range alone.", valueName: "port"))
  var bypassPorts: [String] = []

  @Option(
    help: ArgumentHelp(
      "Capture only connections to this address or block, private ones too.", valueName: "cidr"))
  var proxyOnly: [String] = []

  @Option(
    name: .customLong("proxy-only-file"),
    help: ArgumentHelp(
      "The same for each line of this file; SIGHUP reads it again.", valueName: "file"))
  var proxyOnlyFiles: [String] = []

  @Option(
    name: .customLong("proxy-only-port"),
    help: ArgumentHelp("Capture only connections to this port or range.", valueName: "port"))
  var proxyOnlyPorts: [String] = []

  @Flag(help: "Capture connections to private ranges too.")
  var proxyPrivate = false

  @Option(
    help: ArgumentHelp(
      "UDP: proxy, bypass or reject (default: proxy, or reject where the upstream has none).",
      valueName: "what"))
  var udp: String?

  @Option(
    help: ArgumentHelp(
      "QUIC, which is UDP to port 443: proxy like other UDP (the default), or reject, so that TCP takes its place.",
      valueName: "what"))
  var quic: String?

  @Option(
    help: ArgumentHelp(
      "DNS is captured even where other UDP is not, and goes on by udp or tcp (default: udp, or tcp where the upstream has no UDP); off: it is like any other traffic.",
      valueName: "how"))
  var dns: String?

  @Option(
    help: ArgumentHelp(
      "Send captured DNS to this resolver, and capture all of it, whatever its destination.",
      valueName: "address[:port]"))
  var dnsServer: String?

  @Option(
    help: ArgumentHelp(
      "ICMP, as of ping, of whom is captured: bypass or reject (default: as --on-exit, open or closed).",
      valueName: "what"))
  var icmp: String?

  @Option(
    help: ArgumentHelp("The same for every other protocol.", valueName: "what"))
  var other: String?

  @Option(
    help: ArgumentHelp(
      "IPv6: proxy, bypass or reject (default: proxy, or reject where the upstream has none).",
      valueName: "what"))
  var ipv6: String?

  @Option(
    help: ArgumentHelp(
      "Without Sluice everything goes directly (open, the default), or what would be captured is rejected until it runs again (closed).",
      valueName: "how"))
  var onExit: String?

  /// The raw settings, for `Configuration` to check.
  var options: Options {
    var options = Options()
    options.upstream = upstream
    group.fill(&options)
    options.rules = rules
    options.machine = machine
    options.users = Options.Choice(only: users, except: exceptUsers)
    options.groups = Options.Choice(only: groups, except: exceptGroups)
    options.controlGroups = Options.Choice(only: controlGroups, except: exceptControlGroups)
    options.outputInterfaces = Options.Choice(
      only: outputInterfaces, except: exceptOutputInterfaces)
    options.gateways = gateways
    options.sources = Options.Choice(only: sources, except: exceptSources)
    options.hardwareAddresses = Options.Choice(
      only: hardwareAddresses, except: exceptHardwareAddresses)
    options.tcp = tcp
    options.port = port
    options.bypass = bypass
    options.bypassFiles = bypassFiles
    options.bypassPorts = bypassPorts
    options.proxyOnly = proxyOnly
    options.proxyOnlyFiles = proxyOnlyFiles
    options.proxyOnlyPorts = proxyOnlyPorts
    options.proxyPrivate = proxyPrivate
    options.udp = udp
    options.quic = quic
    options.dns = dns
    options.dnsServer = dnsServer
    options.icmp = icmp
    options.other = other
    options.ipv6 = ipv6
    options.onExit = onExit
    return options
  }
  /// The same with the upstream that the environment has, where none is given.
  var optionsWithEnvironment: Options {
    var options = options
    UpstreamSecrets().fillUpstream(&options)
    return options
  }
}
