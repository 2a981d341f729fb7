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

  /// Installs them for as long as it takes until somebody confirms that they may stay; without that
  /// what was there before comes back.
  /// - Parameters:
  ///   - seconds: how long that may take.
  ///   - announce: shows a line to the user at once.
  package static func apply(
    _ configuration: Configuration, confirmedWithin seconds: UInt32,
    announce: (String) -> Void
  ) throws(CommandFailure) {
    let policy = try policy(configuration)
    let installer = try makeInstaller()
    try TentativeRules.apply(policy, on: installer, seconds: seconds, announce: announce)
  }

  /// Says that rules of another process which wait to be confirmed may stay.
  package static func confirm() throws(CommandFailure) { try TentativeRules.confirm() }

  /// Takes away what `apply`, or a run that was killed, has left.
  package static func remove() throws(CommandFailure) {
    try withInstaller { (installer) throws(NetfilterError) in try installer.remove() }
  }

  /// How what is in the kernel differs from what `apply` would install, as a unified diff; nil if it
  /// does not. Touches nothing.
  package static func difference(_ configuration: Configuration) throws(CommandFailure) -> String? {
    let policy = try policy(configuration)
    var lines: [String] = []
    try withInstaller { (installer) throws(NetfilterError) in
      lines = try installer.difference(to: policy)
    }
    if lines.isEmpty { return nil }
    return (["--- in the kernel", "+++ by these flags"] + lines).joined(separator: "\n")
  }

  /// What is in force.
  static func state() throws(CommandFailure) -> KernelState {
    let installer = try makeInstaller()
    do {
      return try installer.state()
    } catch {
      throw CommandFailure(rules: error)
    }
  }

  private static func policy(_ configuration: Configuration) throws(CommandFailure)
    -> RedirectPolicy
  {
    let places = try UpstreamSetup.places(configuration.upstreams)
    return try Scope(configuration, upstreams: places.joined().compactMap(\.exemption)).policy
  }

  private static func withInstaller(
    _ body: (RuleInstaller) throws(NetfilterError) -> Void
  ) throws(CommandFailure) {
    let installer = try makeInstaller()
    do {
      try body(installer)
    } catch {
      throw CommandFailure(rules: error)
    }
  }

  private static func makeInstaller() throws(CommandFailure) -> RuleInstaller {
    guard System.hasNetworkAdministration else {
      throw CommandFailure(
        "reading and changing rules needs CAP_NET_ADMIN: run it with sudo", .noPermission)
    }
    do {
      return try RuleInstaller(ownership: .none)
    } catch {
      throw CommandFailure(rules: error)
    }
  }
}
