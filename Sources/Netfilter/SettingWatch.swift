internal import LinuxIO

/// Kernel settings that capturing depends on, as they were, so that a change can be told.
package struct SettingWatch {
  private var values: [(setting: Sysctl, value: String)]

  /// - Parameters:
  ///   - interfaces: names of the LAN's interfaces; those that do not exist are left out.
  ///   - forwards: whether this host has to forward.
  package init(interfaces: [String], forwards: Bool) {
    var settings = ["all"] + interfaces
    var watched: [Sysctl] = []
    if forwards {
      watched += [Sysctl("net.ipv4.ip_forward"), Sysctl("net.ipv6.conf.all.forwarding")]
    }
    settings = Array(Set(settings)).sorted()
    for interface in settings {
      for name in ["rp_filter", "src_valid_mark"] {
        watched.append(Sysctl(components: ["net", "ipv4", "conf", interface, name]))
      }
    }
    watched.append(Sysctl("net.bridge.bridge-nf-call-iptables"))
    watched.append(Sysctl("net.bridge.bridge-nf-call-ip6tables"))
    values = watched.compactMap { setting in setting.value.map { (setting, $0) } }
  }

  /// One line for each setting that has changed since the last time.
  package mutating func changes() -> [String] {
    var lines: [String] = []
    for index in values.indices {
      let (setting, before) = values[index]
      guard let value = setting.value, value != before else { continue }
      values[index].value = value
      lines.append("\(setting.name) is now \(value) (was \(before))")
    }
    return lines
  }
}
