internal import Addressing
internal import NFTables
internal import Netfilter
internal import RedirectPolicy

/// Whether the kernel takes a table with one kind of expression in it; where it does not, the error
/// names the option that it was built without.
struct FeatureTrial {
  private let check: Finding.Check
  /// For people: "the fib expression".
  private let name: String
  /// Whether what is wanted needs it.
  private let isNeeded: Bool
  private let ownership: RuleInstaller.Ownership
  private let table: Table

  private init(
    _ check: Finding.Check, _ name: String, isNeeded: Bool = true,
    ownership: RuleInstaller.Ownership = .none, sets: [NamedSet] = [], chains: [Chain] = []
  ) {
    self.check = check
    self.name = name
    self.isNeeded = isNeeded
    self.ownership = ownership
    table = Table(
      family: .inet, name: "sluice_doctor_\(check.rawValue)", sets: sets, chains: chains)
  }

  /// Every feature that some scope needs.
  static func all(for wanted: RedirectPolicy) -> [FeatureTrial] {
    let captures = [wanted.machine?.capture, wanted.gateway?.capture]
    let tcp = Expression.transport(TransportMatch(.equal, .tcp))
    let listener = SocketAddress(.v4(.loopback), wanted.ports.tproxy)
    let types = NamedSet("types", addressTypes: [.local])
    // Its level is what the kernel looks at; no socket will ever be of it.
    let group = ControlGroup(path: "sluice", level: 1, identifier: 1)
    return [
      FeatureTrial(.ownedTables, "tables owned by a process", ownership: .process),
      FeatureTrial(
        .nat, "the redirect statement", isNeeded: captures.contains(.redirect),
        chains: [
          Chain(
            "nat", Chain.Base(.nat, .prerouting, .dstnat),
            rules: [Rule(tcp, .redirect(Redirect(to: wanted.ports.redirect)))])
        ]),
      FeatureTrial(
        .tproxy, "the tproxy statement", isNeeded: !wanted.delivered.isEmpty,
        chains: prerouting(
          .family(FamilyMatch(.v4)), tcp, .tproxy(TransparentProxy(to: listener)))),
      FeatureTrial(
        .socket, "the socket expression", isNeeded: wanted.deliveredOfGateway.contains(.tcp),
        chains: prerouting(.socket(.transparent), .verdict(.accept))),
      FeatureTrial(
        .fib, "the fib expression", sets: [types],
        chains: prerouting(
          .addressType(AddressTypeLookup(in: types.name)), .verdict(.accept))),
      FeatureTrial(
        .reject, "the reject statement", isNeeded: wanted.rejects,
        chains: [
          Chain(
            "reject", Chain.Base(.filter, .output, .filter),
            rules: [Rule(.reject(.administrativelyProhibited))])
        ]),
      FeatureTrial(
        .controlGroups, "control groups in the socket expression",
        isNeeded: wanted.machine?.controlGroups.isEverything == false,
        sets: [NamedSet("groups", controlGroups: [group])],
        chains: [
          Chain(
            "groups", Chain.Base(.filter, .output, .filter),
            rules: [
              Rule(
                .controlGroup(ControlGroupLookup(level: group.level, in: "groups")),
                .verdict(.accept))
            ])
        ]),
    ]
  }

  private static func prerouting(_ expressions: Expression...) -> [Chain] {
    [
      Chain(
        "try", Chain.Base(.filter, .prerouting, .mangle), rules: [Rule(expressions)])
    ]
  }

  /// To be called in the sandbox.
  func finding() -> Finding {
    do throws(NetfilterError) {
      try RuleInstaller(ownership: ownership).install(table, RoutingPlan())
      return .ok(check, "this kernel has \(name)")
    } catch {
      let failure = TrialFailure(error)
      return .missing(check, isNeeded: isNeeded, failure.what, advice: failure.advice)
    }
  }
}

extension RedirectPolicy {
  /// Whether anything is rejected, now or while the daemon is away.
  fileprivate var rejects: Bool {
    exit == .closed || uncaptured.ipv6 == .reject || rejectsQUIC
      || dns == .everywhere || gateway?.losesDatagrams == true
      || [uncaptured.udp, uncaptured.icmp, uncaptured.other].contains(.reject)
  }
}
