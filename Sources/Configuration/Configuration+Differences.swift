extension Configuration {
  /// The settings that say something else than in `other` and can be adopted under a run, by the names of
  /// their options, in the order of the manual. What only can take effect with a restart is not compared.
  package func differences(from other: Configuration) -> [String] {
    var names: [String] = []
    func compare<Value: Equatable>(_ path: KeyPath<Configuration, Value>, _ name: String) {
      if self[keyPath: path] != other[keyPath: path] { names.append(name) }
    }
    if !upstreams.hasMembers(of: other.upstreams) { names.append("upstream") }
    compare(\.upstreams.balance, "balance")
    compare(\.machine?.users.only, "uid")
    compare(\.machine?.users.except, "except-uid")
    compare(\.machine?.groups.only, "gid")
    compare(\.machine?.groups.except, "except-gid")
    compare(\.machine?.controlGroups.only, "cgroup")
    compare(\.machine?.controlGroups.except, "except-cgroup")
    compare(\.machine?.outputInterfaces.only, "out-interface")
    compare(\.machine?.outputInterfaces.except, "except-out-interface")
    if gateway?.interfaces != other.gateway?.interfaces
      || gateway?.interfaceGroups != other.gateway?.interfaceGroups
    {
      names.append("gateway")
    }
    compare(\.gateway?.sources.only, "from")
    compare(\.gateway?.sources.except, "except-from")
    compare(\.gateway?.hardwareAddresses.only, "mac")
    compare(\.gateway?.hardwareAddresses.except, "except-mac")
    compare(\.rules, "rule")
    compare(\.destinations.bypass, "bypass")
    compare(\.destinations.bypassFiles, "bypass-file")
    compare(\.destinations.bypassPorts, "bypass-port")
    compare(\.destinations.only, "proxy-only")
    compare(\.destinations.onlyFiles, "proxy-only-file")
    compare(\.destinations.onlyPorts, "proxy-only-port")
    compare(\.destinations.proxyPrivate, "proxy-private")
    compare(\.uncaptured.udp, "udp")
    compare(\.quic, "quic")
    compare(\.uncaptured.icmp, "icmp")
    compare(\.uncaptured.other, "other")
    compare(\.uncaptured.ipv6, "ipv6")
    compare(\.halfClose, "half-close")
    compare(\.timeouts.connect, "connect-timeout")
    compare(\.timeouts.handshake, "handshake-timeout")
    compare(\.timeouts.idle, "idle-timeout")
    compare(\.timeouts.halfClose, "half-close-timeout")
    compare(\.timeouts.drain, "drain-timeout")
    compare(\.datagrams.timeouts.unreplied, "udp-unreplied-timeout")
    compare(\.datagrams.timeouts.established, "udp-timeout")
    compare(\.datagrams.timeouts.dns, "dns-timeout")
    return names
  }
}
