internal import NFTables
internal import Netfilter
internal import RedirectPolicy

/// Policy routing of others that would meet our packets, or our routes.
struct RoutingConflicts {
  private let policy: RedirectPolicy

  init(_ policy: RedirectPolicy) { self.policy = policy }

  /// - Parameters:
  ///   - rules: those that are not ours.
  ///   - routes: how many of each family are in our table and not ours.
  func findings(_ rules: [HostNetwork.Rule], _ routes: [IPFamily: Int]) -> [Finding] {
    [marks(rules), priorities(rules), table(routes)]
  }

  private func marks(_ rules: [HostNetwork.Rule]) -> Finding {
    let marks = policy.numbers.marks
    let ours = hexadecimal(marks.mask)
    guard let rule = rules.first(where: { $0.overlaps(marks) }) else {
      return .ok(.marks, "no other ip rule looks at the bits \(ours) of a mark")
    }
    return .warning(
      .marks, "\(rule.text) looks at our bits \(ours) of a mark",
      advice:
        "run takes other bits instead; to have these, give that program another mark, or remove "
        + "the rule: \(rule.removal)")
  }

  private func priorities(_ rules: [HostNetwork.Rule]) -> Finding {
    let first = policy.numbers.rulePriority
    let ours = first...(first + 2)
    guard let rule = rules.first(where: { ours.contains($0.priority) }) else {
      return .ok(.rulePriority, "the priorities \(first) to \(first + 2) of ip rules are free")
    }
    return .warning(
      .rulePriority, "\(rule.text) stands among our rules, at \(first) to \(first + 2)",
      advice:
        "run takes other priorities instead; to have these, give that rule another one, or remove "
        + "it: \(rule.removal)")
  }

  private func table(_ routes: [IPFamily: Int]) -> Finding {
    let table = policy.numbers.routeTable
    guard let family = [IPFamily.v4, .v6].first(where: { routes[$0] != nil }),
      let count = routes[family]
    else { return .ok(.routeTable, "the routing table \(table) is free") }
    let option = family == .v4 ? "" : "-6 "
    return .warning(
      .routeTable,
      "the routing table \(table) has \(count) \(family.name) routes of another program",
      advice:
        "run takes another table instead; look at the routes with: ip \(option)route show table \(table); remove them with: ip "
        + "\(option)route flush table \(table)")
  }
}

extension HostNetwork.Rule {
  /// Whether its maker's marks and ours get into each other's way: it looks at a field of the mark that
  /// shares bits with ours or, if it looks at the whole mark, for a value with bits of ours in it. (That
  /// a mark as a whole is another one is all that WireGuard's rule asks, for one.)
  func overlaps(_ marks: Marks) -> Bool {
    let isWhole = markMask == .max
    return (isWhole ? mark : markMask) & marks.mask != 0
  }

  /// As `ip rule` lists it.
  var text: String {
    let marked = markMask == 0 ? "" : " fwmark \(hexadecimal(mark))/\(hexadecimal(markMask))"
    return "ip\(option) rule priority \(priority)\(marked)"
  }

  /// What deletes it.
  var removal: String { "ip\(option) rule del priority \(priority)" }

  private var option: String { family == .v4 ? "" : " -6" }
}

private func hexadecimal(_ value: UInt32) -> String { "0x" + String(value, radix: 16) }
