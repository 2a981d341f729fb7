package import LinuxIO

/// What makes this host forward packets, which a gateway needs for the traffic that is not captured.
///
/// The kernel resets other settings whenever a forwarding switch is written
/// (Documentation/networking/ip-sysctl.rst): those are put back at the end, too.
package struct Forwarding {
  private static let switches = [
    Sysctl("net.ipv4.ip_forward"), Sysctl("net.ipv6.conf.all.forwarding"),
  ]

  /// What was there before changes, ours and those of processes that this one continues, in their order.
  private var previous: [(setting: Sysctl, value: String)] = []
  private let isOff: [Sysctl]

  /// The switches that are off.
  package var missing: [Sysctl] { isOff }

  /// What `restore` would put back, for another process to continue with: a line for each setting of its
  /// path, a space, and the value.
  package var record: String {
    previous.map { "\($0.setting.path) \($0.value)\n" }.joined()
  }

  /// Reads the switches; changes nothing.
  /// - Parameter record: of the process that this one continues; lines that are none of its are left out.
  package init(continuing record: String = "") {
    isOff = Self.switches.filter { $0.value == "0" }
    previous = record.split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ", maxSplits: 1)
      guard words.count == 2 else { return nil }
      let setting = Sysctl(path: String(words[0]))
      return setting.isOfForwarding ? (setting, String(words[1])) : nil
    }
  }

  /// Turns on the switches that are off. A family that this kernel lacks has no switch.
  ///
  /// An interface that takes router advertisements (`accept_ra` 1, `forwarding` 0) would stop doing so
  /// as soon as IPv6 is forwarded, and lose its default route: it is told to go on (2).
  /// - Returns: one line for each change.
  package mutating func enable() throws(Errno) -> [String] {
    var lines: [String] = []
    for setting in isOff {
      if setting == Self.switches[1] {
        for acceptance in Self.advertisementsTaken() {
          lines.append(try change(acceptance, to: "2"))
        }
      }
      remember(Self.settingsReset(by: setting))
      lines.append(try change(setting, to: "1"))
    }
    return lines
  }

  /// Puts back what was there before `enable`; a setting of an interface that is gone is left out.
  package mutating func restore() {
    // Backwards: a switch resets what was remembered before it.
    for (setting, value) in previous.reversed() where setting.value != value {
      _ = try? setting.set(value)
    }
    previous = []
  }

  private mutating func change(_ setting: Sysctl, to value: String) throws(Errno) -> String {
    remember([setting])
    try setting.set(value)
    return "set \(setting.name) to \(value) (was \(previous.last?.value ?? "unknown"))"
  }

  private mutating func remember(_ settings: [Sysctl]) {
    for setting in settings {
      if let value = setting.value { previous.append((setting, value)) }
    }
  }

  /// `inet_forward_change` in net/ipv4/devinet.c and `addrconf_forward_change` in
  /// net/ipv6/addrconf.c say what they change.
  private static func settingsReset(by setting: Sysctl) -> [Sysctl] {
    if setting == switches[0] {
      return perInterface("ipv4", "forwarding") + [Sysctl("net.ipv4.conf.all.accept_redirects")]
    }
    return perInterface("ipv6", "forwarding")
  }

  /// `accept_ra` of the interfaces that take advertisements only as long as they do not forward.
  private static func advertisementsTaken() -> [Sysctl] {
    interfaces("ipv6")
      .filter {
        $0 != "lo" && setting("ipv6", $0, "accept_ra").value == "1"
          && setting("ipv6", $0, "forwarding").value == "0"
      }
      .map { setting("ipv6", $0, "accept_ra") }
  }

  private static func perInterface(_ family: String, _ name: String) -> [Sysctl] {
    interfaces(family).map { setting(family, $0, name) }
  }

  private static func setting(_ family: String, _ interface: String, _ name: String) -> Sysctl {
    Sysctl(components: ["net", family, "conf", interface, name])
  }

  /// Every interface, and `default`, which those to come start from.
  private static func interfaces(_ family: String) -> [String] {
    directoryEntries("/proc/sys/net/\(family)/conf").filter { $0 != "all" }.sorted()
  }
}

extension Sysctl {
  /// Whether it is one of those that are changed here.
  fileprivate var isOfForwarding: Bool {
    let words = path.split(separator: "/", omittingEmptySubsequences: false)
    if words == ["net", "ipv4", "ip_forward"] { return true }
    guard words.count == 5, words[0] == "net", ["ipv4", "ipv6"].contains(words[1]),
      words[2] == "conf",
      !["", ".", ".."].contains(words[3])
    else { return false }
    return ["forwarding", "accept_ra", "accept_redirects"].contains(words[4])
  }
}
