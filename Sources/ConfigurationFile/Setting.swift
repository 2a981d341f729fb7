internal import Configuration

/// A key of the file: what it takes, and the option that it fills in. It has the name of the flag.
struct Setting: Sendable {
  enum Value: Sendable {
    case flag(any WritableKeyPath<Options, Bool> & Sendable)
    case number(any WritableKeyPath<Options, Int?> & Sendable)
    case text(any WritableKeyPath<Options, String?> & Sendable, words: [String] = [])
    /// One text or several.
    case texts(any WritableKeyPath<Options, [String]> & Sendable)
    /// The same, each text a `PolicyRule`, or the mapping that it stands for.
    case rules(any WritableKeyPath<Options, [String]> & Sendable)
  }

  let name: String
  let value: Value
  let summary: String

  init(_ name: String, _ value: Value, _ summary: String) {
    self.name = name
    self.value = value
    self.summary = summary
  }

  /// For messages.
  var expectation: String {
    switch value {
    case .flag: "true or false"
    case .number: "a whole number"
    case .text(_, let words):
      words.isEmpty
        ? "a text" : "\(words.dropLast().joined(separator: ", ")) or \(words.last ?? "")"
    case .texts: "a text or a list of texts"
    case .rules: "a list of rules, such as {ports: [25], to: reject}"
    }
  }

  static func named(_ name: String) -> Setting? { all.first { $0.name == name } }

  static let all = whose + destinations + treatments + engine + timeouts
}

/// The words of a setting that has but some.
private func words<Value: RawRepresentable<String> & CaseIterable>(_: Value.Type) -> [String] {
  Value.allCases.map(\.rawValue)
}

extension Setting {
  private static let whose = [
    Setting(
      "upstream", .texts(\.givenUpstreams),
      "Where captured traffic goes: a URL, or several joined by commas, a chain; a list is a group."
    ),
    Setting(
      "balance", .text(\.balance, words: words(UpstreamSelection.Balance.self)),
      "How flows are shared out among several upstreams."),
    Setting(
      "rule", .rules(\.rules),
      "Which flows go through which upstream (to: its name, or default), directly, or nowhere (reject)."
    ),
    Setting(
      "password-file", .text(\.passwordFile),
      "File with the password of the upstream's user on its first line."),
    Setting(
      "machine", .flag(\.machine),
      "Capture what this host itself sends; implied by the choices of it."),
    Setting("uid", .texts(\.users.only), "Capture these users alone: name, number or range."),
    Setting("except-uid", .texts(\.users.except), "Do not capture these users."),
    Setting("gid", .texts(\.groups.only), "Capture these groups alone: name, number or range."),
    Setting("except-gid", .texts(\.groups.except), "Do not capture these groups."),
    Setting(
      "cgroup", .texts(\.controlGroups.only),
      "Capture these control groups alone: a path, or a systemd unit or slice."),
    Setting(
      "except-cgroup", .texts(\.controlGroups.except), "Do not capture these control groups."),
    Setting(
      "out-interface", .texts(\.outputInterfaces.only),
      "Capture what would leave by these interfaces alone."),
    Setting(
      "except-out-interface", .texts(\.outputInterfaces.except),
      "Do not capture what would leave by these interfaces."),
    Setting(
      "gateway", .texts(\.gateways),
      "Capture what arrives on these interfaces: a name, the beginning of one (docker*), or group:N."
    ),
    Setting("from", .texts(\.sources.only), "… from these addresses or blocks alone."),
    Setting("except-from", .texts(\.sources.except), "… not from these addresses or blocks."),
    Setting("mac", .texts(\.hardwareAddresses.only), "… from these hardware addresses alone."),
    Setting(
      "except-mac", .texts(\.hardwareAddresses.except), "… not from these hardware addresses."),
  ]

  private static let destinations = [
    Setting("bypass", .texts(\.bypass), "Leave connections to these addresses or blocks alone."),
    Setting("bypass-file", .texts(\.bypassFiles), "The same for each line of these files."),
    Setting(
      "bypass-port", .texts(\.bypassPorts), "Leave connections to these ports or ranges alone."),
    Setting(
      "proxy-only", .texts(\.proxyOnly),
      "Capture only connections to these addresses or blocks, private ones too."),
    Setting("proxy-only-file", .texts(\.proxyOnlyFiles), "The same for each line of these files."),
    Setting(
      "proxy-only-port", .texts(\.proxyOnlyPorts),
      "Capture only connections to these ports or ranges."),
    Setting("proxy-private", .flag(\.proxyPrivate), "Capture connections to private ranges too."),
  ]

  private static let treatments = [
    Setting(
      "udp", .text(\.udp, words: words(Configuration.ProxyTreatment.self)), "What becomes of UDP."),
    Setting(
      "quic", .text(\.quic, words: words(Configuration.QUICTreatment.self)),
      "What becomes of QUIC, which is UDP to port 443."),
    Setting(
      "dns", .text(\.dns, words: words(Configuration.DNS.self)),
      "How captured DNS goes on; off: it is like any other traffic."),
    Setting(
      "dns-server", .text(\.dnsServer), "Send captured DNS to this resolver, and capture all of it."
    ),
    Setting(
      "icmp", .text(\.icmp, words: words(Configuration.Treatment.self)),
      "What becomes of ICMP, as of ping."),
    Setting(
      "other", .text(\.other, words: words(Configuration.Treatment.self)),
      "What becomes of every other protocol."),
    Setting(
      "ipv6", .text(\.ipv6, words: words(Configuration.ProxyTreatment.self)),
      "What becomes of IPv6."),
    Setting(
      "on-exit", .text(\.onExit, words: words(Configuration.Fallback.self)),
      "Without Sluice everything goes directly (open), or is rejected until it runs again (closed)."
    ),
    Setting(
      "on-upstream-down", .text(\.onUpstreamDown, words: words(Configuration.Fallback.self)),
      "The same while the upstream is down."),
  ]

  private static let engine = [
    Setting("tcp", .text(\.tcp, words: words(Configuration.Capture.self)), "How TCP is captured."),
    Setting(
      "port", .number(\.port),
      "Local port of the redirect listener; the tproxy listener has the next one."),
    Setting("workers", .number(\.workers), "Threads that relay; by default one per processor."),
    Setting(
      "half-close", .text(\.halfClose, words: words(Configuration.HalfClose.self)),
      "What the upstream hears when a program has stopped sending."),
    Setting(
      "pool", .number(\.pool),
      "Connections that are kept ready with each SOCKS5 upstream at most."),
    Setting(
      "early-data", .text(\.earlyData, words: words(Configuration.EarlyData.self)),
      "Send what a program has said along with the request, before the upstream's reply."),
    Setting(
      "probe-interval", .text(\.probeInterval),
      "Seconds between two questions to an upstream whether it lives, or off."),
    Setting(
      "probe-target", .text(\.probeTarget),
      "HOST:PORT that it is asked to connect to for that."),
    Setting(
      "probe-timeout", .number(\.probeTimeout), "Seconds for it to answer that."),
    Setting(
      "probe-failures", .number(\.probeFailures),
      "It is down after so many questions without an answer."),
    Setting(
      "tcp-fast-open", .flag(\.tcpFastOpen),
      "Send the first bytes to an upstream with the SYN, where it has allowed that."),
    Setting(
      "congestion", .text(\.congestion),
      "Congestion control towards upstreams; by default the system's."),
    Setting(
      "udp-relay", .text(\.udpRelay),
      "Where the upstream takes datagrams: auto, reported, control, or an address."),
    Setting(
      "udp-associations", .number(\.udpAssociations),
      "Senders of datagrams, each an address and a port, at once."),
    Setting("udp-per-client", .number(\.udpPerClient), "The same of one address."),
    Setting(
      "control", .text(\.control),
      "Path of the socket where other commands reach this run, or none."),
    Setting(
      "control-group", .text(\.controlGroup), "Who may use that beside root."),
    Setting(
      "metrics", .text(\.metrics),
      "Where Prometheus reads metrics: unix:PATH, 127.0.0.1:PORT or [::1]:PORT."),
  ]

  private static let timeouts = [
    Setting(
      "connect-timeout", .number(\.connectTimeout), "Seconds for the connection to the upstream."),
    Setting(
      "user-timeout", .number(\.userTimeout),
      "Seconds for the upstream to acknowledge what it is sent; by default as the system has it."),
    Setting("handshake-timeout", .number(\.handshakeTimeout), "Seconds for the upstream's reply."),
    Setting(
      "idle-timeout", .number(\.idleTimeout), "Seconds for a flow without a byte either way."),
    Setting(
      "half-close-timeout", .number(\.halfCloseTimeout),
      "Seconds for a flow without a byte after one side has ended."),
    Setting("drain-timeout", .number(\.drainTimeout), "Seconds for open flows to finish at exit."),
    Setting(
      "udp-unreplied-timeout", .number(\.udpUnrepliedTimeout),
      "Seconds for a sender of datagrams whom nobody has answered."),
    Setting(
      "udp-timeout", .number(\.udpTimeout),
      "Seconds for a sender of datagrams without a datagram either way."),
    Setting("dns-timeout", .number(\.dnsTimeout), "Seconds for a sender of DNS queries alone."),
  ]
}

extension Options {
  /// The first upstream and further ones, as they were written.
  var givenUpstreams: [String] {
    get { [upstream].compactMap(\.self) + furtherUpstreams }
    set {
      upstream = newValue.first
      furtherUpstreams = Array(newValue.dropFirst())
    }
  }
}
