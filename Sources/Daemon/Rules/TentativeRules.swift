internal import LinuxIO
internal import Netfilter
internal import RedirectPolicy

/// `sluice rules apply --confirm`: rules that stay only if somebody says so, since they may cut off who
/// has installed them.
enum TentativeRules {
  /// Installs the policy and waits; without a confirmation what was there before comes back.
  /// - Parameter announce: shows a line to the user at once.
  static func apply(
    _ policy: RedirectPolicy, on installer: RuleInstaller, seconds: UInt32,
    announce: (String) -> Void
  ) throws(CommandFailure) {
    let confirmation = try makeConfirmation()
    let former: KernelState
    do {
      former = try installer.state()
    } catch {
      throw CommandFailure(rules: error)
    }
    if let first = former.foreign.first {
      throw CommandFailure(
        "what is there now could not be restored, for it is not all of Sluice's making "
          + "(\(first)): remove that, or leave out --confirm", .unavailable)
    }
    do {
      try installer.install(policy)
    } catch {
      // What has failed may have taken away what was there before.
      if (try? installer.state()) != former {
        try restore(former, on: installer, because: "\(error)")
      }
      throw CommandFailure(rules: error)
    }
    announce(
      "installed: to keep the rules, run 'sluice rules confirm' within \(seconds) s"
        + (confirmation.hasTerminal ? ", or press Enter" : ""))
    let reason: String
    switch confirmation.wait(.seconds(seconds)) {
    case .confirmed:
      announce("confirmed: the rules stay")
      return
    case .silence: reason = "not confirmed within \(seconds) s"
    case .refused: reason = "not confirmed"
    }
    try restore(former, on: installer, because: reason)
    throw CommandFailure("\(reason): what was there before is back", .takenBack)
  }

  /// Says that the rules that another process has installed may stay.
  static func confirm() throws(CommandFailure) {
    do {
      if try Confirmation.give() { return }
    } catch .connectionRefused {
      throw CommandFailure(
        "nothing waits here to be confirmed: it is too late, or this is another network namespace",
        .unavailable)
    } catch {
      throw CommandFailure("cannot confirm: \(error)", .unavailable)
    }
    throw CommandFailure(
      "not confirmed: it was too late, or the rules are another user's", .unavailable)
  }

  // MARK: Pieces

  private static func makeConfirmation() throws(CommandFailure) -> Confirmation {
    do {
      return try Confirmation()
    } catch .addressInUse {
      throw CommandFailure(
        "other rules wait here to be confirmed: run 'sluice rules confirm' first", .unavailable)
    } catch {
      throw CommandFailure("cannot wait for a confirmation: \(error)", .unavailable)
    }
  }

  private static func restore(
    _ former: KernelState, on installer: RuleInstaller, because reason: String
  ) throws(CommandFailure) {
    do {
      try installer.restore(former)
    } catch {
      throw CommandFailure(
        "\(reason), and what was there before cannot be restored (\(error)): 'sluice rules remove' "
          + "takes the new rules away", .unavailable)
    }
  }
}
