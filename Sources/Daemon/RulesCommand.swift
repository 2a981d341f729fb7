internal import Addressing
package import Configuration
internal import LinuxIO
internal import NFTables
internal import Netfilter
internal import RedirectPolicy

/// `sluice rules`: the rules without a daemon.
package enum RulesCommand {
  /// The ruleset as nft text; touches nothing.
  package static func text(_ configuration: Configuration) throws(CommandFailure) -> String {
    let policy = try policy(configuration)
    return [policy.guardTable(), policy.table()].compactMap(\.self).map(\.description)
      .joined(separator: "\n\n")
  }

  /// Installs rules and routes that stay when this process ends.
  package static func apply(_ configuration: Configuration) throws(CommandFailure) {
    let policy = try policy(configuration)
    try withInstaller { (installer) throws(NetfilterError) in try installer.install(policy) }
  }

  /// Takes away what `apply`, or a run that was killed, has left.
  package static func remove() throws(CommandFailure) {
    try withInstaller { (installer) throws(NetfilterError) in try installer.remove() }
  }

  private static func policy(_ configuration: Configuration) throws(CommandFailure)
    -> RedirectPolicy
  {
    let upstreams = try UpstreamSetup.addresses(configuration.upstream).map(\.address)
    return try Scope(configuration, upstreams: upstreams).policy
  }

  private static func withInstaller(
    _ body: (RuleInstaller) throws(NetfilterError) -> Void
  ) throws(CommandFailure) {
    guard System.hasNetworkAdministration else {
      throw CommandFailure("changing rules needs CAP_NET_ADMIN: run it with sudo", .noPermission)
    }
    do {
      try body(RuleInstaller(ownership: .none))
    } catch {
      throw CommandFailure(rules: error)
    }
  }
}
