internal import Addressing
internal import LinuxIO
internal import NFTables
internal import RedirectPolicy

/// Whom this host asks for names (`resolv.conf(5)`).
struct NameServers: Equatable {
  /// Whom programs ask, except stubs on the loopback.
  var asked: [IPAddress] = []
  /// The stubs.
  var stubs: [IPAddress] = []
  /// Whom such a stub asks in its turn: systemd-resolved tells.
  var askedByStub: [IPAddress] = []
  /// What else the file says that programs read: search lists and options.
  private var rest: [Substring] = []

  static func current() -> NameServers {
    NameServers(
      programs: readFile("/etc/resolv.conf") ?? "",
      stub: readFile("/run/systemd/resolve/resolv.conf") ?? "")
  }

  /// - Parameters:
  ///   - programs: the file that programs read.
  ///   - stub: the one that names the servers behind a stub.
  init(programs: String, stub: String) {
    let named = Self.parse(programs)
    asked = named.filter { !$0.isLoopback }
    stubs = named.filter(\.isLoopback)
    if !stubs.isEmpty { askedByStub = Self.parse(stub) }
    rest = programs.split(separator: "\n").filter { !$0.hasPrefix("nameserver") }
  }

  /// The file that programs read, with these servers instead.
  func file(asking servers: [IPAddress]) -> String {
    (rest + servers.map { "nameserver \($0)" }).map { "\($0)\n" }.joined()
  }

  private static func parse(_ text: String) -> [IPAddress] {
    text.split(separator: "\n").compactMap { line in
      let words = line.split { $0 == " " || $0 == "\t" }
      guard words.first == "nameserver", words.count > 1 else { return nil }
      return IPAddress(words[1])
    }
  }

  /// Those that are asked directly though this host's own traffic is captured.
  func direct(under policy: RedirectPolicy) -> [IPAddress] {
    guard let machine = policy.machine, policy.dns != .everywhere else { return [] }
    // Whoever it is that asks.
    var all = policy
    all.machine = RedirectPolicy.Machine(machine.capture)
    return asked.filter { !all.capturesQuery(to: $0) }
      + askedByStub.filter { !policy.capturesQuery(to: $0) }
  }
}

extension RedirectPolicy {
  /// Whether a query that a service of this host sends is captured.
  fileprivate func capturesQuery(to server: IPAddress) -> Bool {
    let unspecified: IPAddress = server.isIPv4 ? .v4(.any) : .v6(.any)
    var packet = Packet(from: unspecified, to: server, .udp(source: 49152, destination: 53))
    packet.user = 0
    if case .captured = explain(packet).verdict { return true }
    return false
  }
}
