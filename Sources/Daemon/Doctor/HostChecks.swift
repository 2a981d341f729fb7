internal import Addressing
internal import DataPlane
internal import LinuxIO
internal import NFTables
internal import Netfilter
internal import RedirectPolicy

/// Whether this host, as it is now, stands in the way. Only reads.
struct HostChecks {
  private let policy: RedirectPolicy
  private let privileges: Privileges

  init(_ policy: RedirectPolicy, _ privileges: Privileges) {
    self.policy = policy
    self.privileges = privileges
  }

  func findings() -> [Finding] {
    var findings: [Finding] = []
    if privileges.canChangeRules { findings.append(instance()) }
    findings += ports()
    findings += [
      HostLimits.descriptors(hard: DescriptorLimit.hard),
      HostLimits.conntrack(
        count: number("net.netfilter.nf_conntrack_count"),
        maximum: number("net.netfilter.nf_conntrack_max")),
    ]
    do throws(Errno) {
      let network = try HostNetwork()
      let rules = try network.foreignRules()
      let conflicts = RoutingConflicts(policy)
      let routes = try network.foreignRoutes(inTable: policy.numbers.routeTable)
      findings += conflicts.findings(rules, routes)
      if let gateway = GatewayChecks(
        policy, interfaces: try network.interfaces(), rules: rules)
      {
        findings += gateway.findings()
      }
    } catch {
      findings.append(
        .warning(
          .marks, "cannot list interfaces, rules and routes: \(error)",
          advice: "look whether a security module forbids netlink"))
    }
    return findings
  }

  private func number(_ setting: String) -> Int? { Sysctl(setting).value.flatMap { Int($0) } }

  // MARK: Who is there already

  private func instance() -> Finding {
    let name = RedirectPolicy.tableName
    do throws(NetfilterError) {
      switch try RuleInstaller(ownership: .process).holder() {
      case nil:
        return .ok(.instance, "no other process captures here")
      case 0?:
        return .ok(
          .instance,
          "a table \(name) without an owner is there, as rules apply leaves it; run "
            + "replaces it")
      case let holder?:
        // Netlink gives a process's first socket the number of the process.
        let owner = SocketOwner.program(ofProcess: holder)
        return .failure(
          .instance, "\(owner ?? "a process") (netlink port \(holder)) holds the table \(name)",
          advice: owner == "sluice"
            ? "stop that run first: kill \(holder)" : "end that program, or its use of this table")
      }
    } catch {
      return .failure(
        .instance, "\(error)", advice: "use a kernel with nftables, or load its module nf_tables")
    }
  }

  private func ports() -> [Finding] {
    var problems: [Finding] = []
    var isWithoutIPv6 = false
    let scope = Scope(policy)
    typealias Check = (SocketAddress) throws(Errno) -> Void
    let streams: [(SocketAddress, String, Check)] = scope.listeners.map {
      ($0.address, "TCP", StreamSocket.checkFree)
    }
    let all = streams + scope.datagramAddresses.map { ($0, "UDP", DatagramSocket.checkFree) }
    for (address, _, check) in all {
      do throws(Errno) {
        try check(address)
      } catch .addressNotAvailable where !address.address.isIPv4 {
        isWithoutIPv6 = true
      } catch .familyNotSupported where !address.address.isIPv4 {
        isWithoutIPv6 = true
      } catch {
        problems += problem(address, error)
      }
    }
    let texts = all.map { "\($0.0) \($0.1)" }.joined(separator: ", ")
    let ports = problems.isEmpty ? [.ok(.ports, "can listen on \(texts)")] : problems
    let ipv6: Finding =
      isWithoutIPv6
      ? .warning(
        .ipv6, "this host has no ::1: IPv6 is not captured",
        advice: "set net.ipv6.conf.lo.disable_ipv6 to 0, or leave it if nothing here uses IPv6")
      : .ok(.ipv6, "listeners over IPv6 are possible")
    return ports + [ipv6]
  }

  /// Nothing where it is another run that has the port: that is said once.
  private func problem(_ address: SocketAddress, _ error: Errno) -> [Finding] {
    guard error == .addressInUse else {
      return [
        .failure(
          .ports, "cannot listen on \(address): \(error)", advice: "choose another with --port")
      ]
    }
    let owner = SocketOwner.listening(on: address) ?? SocketOwner.ofDatagrams(at: address)
    if owner?.name == "sluice", privileges.canChangeRules { return [] }
    let holder = owner.map { "\($0.name) (pid \($0.processID))" } ?? "another program"
    return [
      .failure(
        .ports, "\(address) is in use by \(holder)",
        advice: "choose another with --port, or end that program")
    ]
  }
}

/// Numbers of which there has to be enough.
enum HostLimits {
  /// Each flow takes two descriptors, and two more while it is spliced.
  static let sufficientDescriptors = 4096
  static let conntrackWarningPercent = 80

  /// - Parameter hard: the limit up to which `run` raises its own; nil if it is unknown.
  static func descriptors(hard: Int?) -> Finding {
    guard let hard else { return .ok(.descriptors, "the kernel tells no limit of descriptors") }
    return hard < sufficientDescriptors
      ? .warning(
        .descriptors, "at most \(hard) descriptors may be open, enough for few flows",
        advice: "raise the hard limit: ulimit -Hn \(sufficientDescriptors), or LimitNOFILE= of the "
          + "service")
      : .ok(.descriptors, "\(hard) descriptors may be open")
  }

  /// - Parameters:
  ///   - count: tracked connections; nil while connection tracking is not loaded.
  ///   - maximum: how many there may be; zero for no limit.
  static func conntrack(count: Int?, maximum: Int?) -> Finding {
    guard let count, let maximum, maximum > 0 else {
      return .ok(.conntrack, "connection tracking has no entries and no limit yet")
    }
    let what = "\(count) of \(maximum) connections are tracked"
    return count * 100 > maximum * conntrackWarningPercent
      ? .warning(
        .conntrack, "\(what): beyond the limit new connections are dropped",
        advice: "sysctl -w net.netfilter.nf_conntrack_max=\(maximum * 2)")
      : .ok(.conntrack, what)
  }
}
