internal import LinuxIO
internal import Netfilter

/// What this process may do.
struct Privileges {
  /// CAP_NET_ADMIN: rules, routes, marks.
  let canChangeRules = System.hasNetworkAdministration && mayAskForTables
  /// CAP_SYS_ADMIN: a network namespace of our own, which only the doctor makes.
  let canMakeNamespaces = System.hasSystemAdministration

  /// A process that is root in a user namespace only has the capability, and not in this network
  /// namespace.
  private static var mayAskForTables: Bool {
    do throws(NetfilterError) {
      _ = try RuleInstaller(ownership: .process).holder()
      return true
    } catch {
      return error != .notPermitted
    }
  }

  /// Whether the kernel's features can be tried.
  var canTry: Bool { canChangeRules && canMakeNamespaces }

  var finding: Finding {
    switch (canChangeRules, canMakeNamespaces) {
    case (true, true):
      .ok(
        .privileges, "CAP_NET_ADMIN is there, and CAP_SYS_ADMIN to try the kernel's features with")
    case (true, false):
      .warning(
        .privileges,
        "CAP_SYS_ADMIN is missing, so that the kernel's features were not tried; run does not need it",
        advice: "run the doctor with sudo")
    case (false, _):
      .failure(
        .privileges,
        "CAP_NET_ADMIN is missing in this network namespace, without which nothing can be captured; "
          + "rules and the kernel's features were not looked at",
        advice:
          "run it with sudo, or give the service AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW")
    }
  }
}
